package exchange

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// download passes an answer to the client: the head in exchange.out first, then the
// body from buf as it arrives. Backpressure is the client's: we read when it took.
type download struct {
	x         *exchange
	body      http1.Body
	strip     bool   // the client wants the payload without chunked framing
	buf       []byte // read from upstream
	from      int    // buf[from:to] has arrived and not been looked at
	to        int
	readLimit streamDeadline // of upstream
	moved     time.Time      // when something came last
}

var bulks = sync.Pool{New: func() any { return new([bulkBuffer]byte) }}

// passAnswer writes the answer in x.resp to the client.
func (x *exchange) passAnswer() outcome {
	now := time.Now()
	x.answeredAt, x.status = now, x.resp.Status
	if x.grpc {
		x.grpcStatus = parseStatus(x.resp.Value("grpc-status"))
	}
	toHead := x.req.Method == http1.Head
	body := x.resp.Body(toHead)
	x.untilClose = body.UntilClose()
	strip := body.Chunked() && x.req.IsHTTP10()
	x.rest = x.up.rest(x.resp.KeepAlive())
	x.closing = x.closing || x.untilClose || strip || x.rest == unwanted || x.s.Conns.Draining()
	rewrite := http1.ResponseRewrite{HTTP10: x.req.IsHTTP10(), Close: x.closing, Via: x.s.Name, Bodiless: toHead, Date: x.s.date.at(now), Fields: x.ruled.response()}
	x.out = x.end.appendHead(x.out[:0], &x.resp, rewrite, body.Done())
	d := &download{x: x, body: body, strip: strip, buf: x.back, from: x.headEnd, to: x.filled}
	return d.run(now)
}

// run writes head and body.
func (d *download) run(now time.Time) outcome {
	x := d.x
	x.extendWriteDeadline(now)
	// The head and what came with it leave in one write.
	first, err := d.take()
	if err != nil {
		return x.reply(inner(502, responseIncomplete, x.lease.Addr(), "answered with a malformed body: %v", err))
	}
	x.begin()
	if _, err := x.end.Write(first); err != nil {
		return x.abort()
	}
	if d.body.Done() {
		x.extra = d.to - d.from
		return completed
	}
	bulk := bulks.Get().(*[bulkBuffer]byte)
	defer func() { bulks.Put(bulk) }()
	d.to = copy(bulk[:], d.buf[d.from:d.to])
	d.from, d.buf = 0, bulk[:]
	d.extendDeadlines(time.Now())
	for !d.body.Done() {
		var n int
		var err error
		if d.to == 0 && !x.host.ready() {
			bulks.Put(bulk)
			err = x.host.await()
			bulk = bulks.Get().(*[bulkBuffer]byte)
			d.buf = bulk[:]
		}
		if err == nil {
			n, err = x.host.Read(d.buf[d.to:])
		}
		d.to += n
		if n > 0 {
			if o, ok := d.pass(); !ok {
				return o
			}
		}
		switch {
		case err == nil || d.body.Done():
		case errors.Is(err, io.EOF) && d.body.Closed() == nil:
		case connect.IsTimeout(err) && d.mayCome():
		case x.clientEnded():
			return x.abort()
		default:
			return aborted
		}
	}
	x.extra = d.to - d.from
	return completed
}

// take returns the head in x.out with what buf holds of the body behind it.
func (d *download) take() ([]byte, error) {
	x, from := d.x, d.from
	defer func() { d.ended(from) }()
	if len(x.out) == 0 && !d.strip { // the head waits in the stream
		n, err := d.body.Scan(d.buf[d.from:d.to])
		d.from += n
		x.moved += int64(n)
		return d.buf[from:d.from], err
	}
	for d.from < d.to && !d.body.Done() {
		n, payload, err := d.body.Next(d.buf[d.from:d.to])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		if !d.strip {
			payload = d.buf[d.from : d.from+n]
		}
		x.out = append(x.out, payload...)
		x.moved += int64(len(payload))
		d.from += n
	}
	return x.out, nil
}

// pass writes what buf holds of the body and moves the rest to the front; ok is
// false when the exchange is over with o.
func (d *download) pass() (o outcome, ok bool) {
	d.extendDeadlines(time.Now())
	from := d.from
	if d.strip {
		for d.from < d.to && !d.body.Done() {
			n, payload, err := d.body.Next(d.buf[d.from:d.to])
			if err != nil {
				return aborted, false
			}
			if n == 0 {
				break
			}
			if err := d.write(payload); err != nil {
				return d.x.abort(), false
			}
			d.x.moved += int64(len(payload))
			d.from += n
		}
	} else {
		n, bad := d.body.Scan(d.buf[d.from:d.to])
		if err := d.write(d.buf[d.from : d.from+n]); err != nil {
			return d.x.abort(), false
		}
		if bad != nil {
			return aborted, false
		}
		d.x.moved += int64(n)
		d.from += n
	}
	d.ended(from)
	if !d.body.Done() {
		d.to = copy(d.buf, d.buf[d.from:d.to])
		d.from = 0
	}
	return completed, true
}

// ended looks, once the body has ended, for a gRPC status behind it: in buf[from:d.from].
func (d *download) ended(from int) {
	if d.x.grpc && d.body.Done() && d.x.grpcStatus == noStatus {
		d.x.grpcStatus = trailerStatus(d.buf[from:d.from])
	}
}

func (d *download) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := d.x.end.Write(b)
	return err
}

// extendDeadlines moves both deadlines on.
func (d *download) extendDeadlines(now time.Time) {
	d.x.extendWriteDeadline(now)
	d.moved = now
	if up := d.x.up; up != nil {
		up.moved.Store(now.UnixNano())
	}
	d.readLimit.extend(now, d.lookBounds(), d.x.host.SetReadDeadline)
}

// lookBounds are such that a read ends when it is time to look at the host.
func (d *download) lookBounds() bounds {
	b := d.x.bounds
	if b.idle == 0 || b.idle > lookDuring {
		b.idle = lookDuring
	}
	return b
}

// mayCome reports whether it is of use to wait on for more, after a read of which
// nothing came in time.
func (d *download) mayCome() bool {
	x, now := d.x, time.Now()
	idle := now.Sub(d.moved)
	if x.up.running() {
		idle = min(idle, x.up.idleFor()) // the client may be the one who talks
	}
	if x.bounds.over(now) || x.bounds.idle > 0 && idle >= x.bounds.idle || x.standsStill() {
		x.reason, x.detail = responseTimeout, x.lease.Addr()+" sent nothing more of its answer in time"
		return false
	}
	d.readLimit = streamDeadline{}
	d.readLimit.extend(now, d.lookBounds(), x.host.SetReadDeadline)
	return true
}
