package proxy

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// download passes an answer to the client: the head in exchange.out first, then the
// body from buf as it arrives. Backpressure is the client's: we read when it took.
type download struct {
	x     *exchange
	body  http1.Body
	strip bool   // the client wants the payload without chunked framing
	buf   []byte // read from upstream
	from  int    // buf[from:to] has arrived and not been looked at
	to    int
	lease time.Time // until when upstream's read deadline is good
}

var bulks = sync.Pool{New: func() any { return new([bulkBuffer]byte) }}

// run writes head and body.
func (d *download) run(now time.Time) verdict {
	x := d.x
	x.renew(now)
	// The head and what came with it leave in one write.
	if err := d.take(); err != nil {
		return x.giveUp(inner(502, "http_response_incomplete", x.lease.Addr(), "answered with a malformed body: %v", err))
	}
	x.begun = true
	if err := d.write(x.out); err != nil {
		return x.abandon()
	}
	if d.body.Done() {
		x.extra = d.to - d.from
		return finished
	}
	bulk := bulks.Get().(*[bulkBuffer]byte)
	defer bulks.Put(bulk)
	d.to = copy(bulk[:], d.buf[d.from:d.to])
	d.from, d.buf = 0, bulk[:]
	d.renew(time.Now())
	for !d.body.Done() {
		n, err := x.lease.Read(d.buf[d.to:])
		d.to += n
		if n > 0 {
			if v, ok := d.pass(); !ok {
				return v
			}
		}
		switch {
		case err == nil || d.body.Done():
		case errors.Is(err, io.EOF) && d.body.Closed() == nil:
		default:
			return broken
		}
	}
	x.extra = d.to - d.from
	return finished
}

// take appends what buf holds of the body to the head in x.out.
func (d *download) take() error {
	x := d.x
	for d.from < d.to && !d.body.Done() {
		n, payload, err := d.body.Next(d.buf[d.from:d.to])
		if err != nil {
			return err
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
	return nil
}

// pass writes what buf holds of the body and moves the rest to the front; ok is
// false when the exchange is over with v.
func (d *download) pass() (v verdict, ok bool) {
	d.renew(time.Now())
	if d.strip {
		for d.from < d.to && !d.body.Done() {
			n, payload, err := d.body.Next(d.buf[d.from:d.to])
			if err != nil {
				return broken, false
			}
			if n == 0 {
				break
			}
			if err := d.write(payload); err != nil {
				return d.x.abandon(), false
			}
			d.x.moved += int64(len(payload))
			d.from += n
		}
	} else {
		n, bad := d.body.Scan(d.buf[d.from:d.to])
		if err := d.write(d.buf[d.from : d.from+n]); err != nil {
			return d.x.abandon(), false
		}
		if bad != nil {
			return broken, false
		}
		d.x.moved += int64(n)
		d.from += n
	}
	if !d.body.Done() {
		d.to = copy(d.buf, d.buf[d.from:d.to])
		d.from = 0
	}
	return finished, true
}

func (d *download) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := d.x.client.Write(b)
	return err
}

// renew moves both deadlines on, when that makes a difference.
func (d *download) renew(now time.Time) {
	d.x.renew(now)
	if d.lease.Sub(now) < streamTimeout*7/8 {
		d.lease = now.Add(streamTimeout)
		_ = d.x.lease.SetReadDeadline(d.lease)
	}
}
