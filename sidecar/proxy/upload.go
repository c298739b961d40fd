package proxy

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// upload carries the part of a request's body that did not come with its head. For
// each attempt it runs on a goroutine of its own, which the exchange ends with stop
// or finish. Between start and the end of the goroutine, the unguarded fields are
// the goroutine's; otherwise they are the exchange's.
type upload struct {
	x      *exchange
	client *client
	conn   *upstream.Conn // of the attempt
	buf    *[replaySize]byte
	body   http1.Body // the framing behind buf[:valid]
	valid  int        // buf[:valid] is body, to be sent
	filled int        // buf[valid:filled] has arrived and is not a whole line yet
	sent   int        // of buf[:valid] on this attempt
	lost   bool       // buf does not begin with the body any more
	failed error      // reading from the client, or what it sent, was wrong
	lease  time.Time  // until when the write deadline is good

	continued bool // 100 (Continue) went down; the exchange's

	moved atomic.Int64 // unix nanoseconds of the last progress
	ended chan struct{}

	mu      sync.Mutex
	stopped bool
}

var replays = sync.Pool{New: func() any { return new([replaySize]byte) }}

// newUpload takes over what arrived of the body.
func newUpload(x *exchange) *upload {
	u := &upload{x: x, client: x.client, buf: replays.Get().(*[replaySize]byte), body: x.body}
	u.valid = copy(u.buf[:], x.first) // at most http1.MaxHead, as all of session.in
	u.filled = u.valid + copy(u.buf[u.valid:], x.in[x.from:x.to])
	x.from = x.to
	u.touch()
	return u
}

// release gives the buffer back, after the goroutine has ended.
func (u *upload) release() {
	u.stop()
	replays.Put(u.buf)
	u.buf = nil
}

// rewind returns what is to be sent right behind the head of an attempt.
func (u *upload) rewind() []byte {
	u.sent = u.valid
	return u.buf[:u.valid]
}

// start begins the attempt's goroutine, unless the whole body is sent already.
func (u *upload) start(conn *upstream.Conn) {
	u.stopped = false
	if u.body.Done() {
		return
	}
	u.conn, u.lease = conn, time.Time{}
	u.ended = make(chan struct{})
	go u.run()
}

func (u *upload) run() {
	defer close(u.ended)
	for {
		if u.sent < u.valid {
			u.renew()
			if _, err := u.conn.Write(u.buf[u.sent:u.valid]); err != nil {
				return // the exchange reads the answer, or why there is none
			}
			u.sent = u.valid
			u.touch()
		}
		if u.body.Done() {
			return
		}
		if u.filled == len(u.buf) || u.lost {
			u.lost = true
			u.filled = copy(u.buf[:], u.buf[u.valid:u.filled])
			u.valid, u.sent = 0, 0
		}
		if !u.arm() {
			return
		}
		n, err := u.client.Read(u.buf[u.filled:])
		u.filled += n
		k, bad := u.body.Scan(u.buf[u.valid:u.filled])
		u.valid += k
		switch {
		case bad != nil:
			u.fail(bad)
			return
		case err != nil && !u.body.Done():
			u.fail(err)
			return
		}
		u.touch()
	}
}

// arm sets the deadline for reading from the client, unless we are to stop.
func (u *upload) arm() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stopped {
		return false
	}
	_ = u.client.SetReadDeadline(time.Now().Add(streamTimeout))
	return true
}

// fail ends the attempt because the body cannot be had: the exchange, which waits
// for an answer, sees the connection break.
func (u *upload) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stopped {
		return // it was we who ended the read
	}
	u.failed = err
	_ = u.conn.Abort()
}

func (u *upload) renew() {
	now := time.Now()
	if u.lease.Sub(now) < streamTimeout*7/8 {
		u.lease = now.Add(streamTimeout)
		_ = u.conn.SetWriteDeadline(u.lease)
	}
}

func (u *upload) touch() { u.moved.Store(time.Now().UnixNano()) }

// still returns for how long nothing has moved.
func (u *upload) still() time.Duration { return time.Duration(time.Now().UnixNano() - u.moved.Load()) }

// stop ends the goroutine and, with it, the attempt's connection, unless the
// whole body went out.
func (u *upload) stop() {
	if u.ended == nil {
		return
	}
	select {
	case <-u.ended:
	default:
		u.mu.Lock()
		u.stopped = true
		_ = u.client.SetReadDeadline(time.Unix(1, 0))
		u.mu.Unlock()
		_ = u.conn.Abort()
		<-u.ended
	}
	u.ended = nil
}

// running reports whether the goroutine is at work.
func (u *upload) running() bool {
	if u.ended == nil {
		return false
	}
	select {
	case <-u.ended:
		return false
	default:
		return true
	}
}

// cut reports whether stop ended the upload before its end: the attempt's connection
// is gone. u may be nil.
func (u *upload) cut() bool {
	if u == nil {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stopped
}

// replayable reports whether all that was taken of the body is still here. The
// goroutine must have ended.
func (u *upload) replayable() bool { return !u.lost && u.failed == nil }

// unwanted reports whether the rest of the body has no taker when the answer's head
// has come: the server ends its connection, or the client still waits for leave to
// send. u may be nil.
func (u *upload) unwanted(keepAlive bool) bool {
	return u != nil && u.running() && (!keepAlive || u.x.req.Expects() && !u.continued)
}

// finish waits for the rest of the body once the answer is complete, and reports
// whether all of it was sent. A body that nobody takes any more is cut: at once
// when that is known, else when it stands still.
func (u *upload) finish(unwanted bool) bool {
	if !unwanted {
		tick := time.NewTicker(lingerTimeout / 5)
		defer tick.Stop()
		for u.running() && u.still() < lingerTimeout {
			select {
			case <-u.ended:
			case <-tick.C:
			}
		}
	}
	u.stop()
	return u.failed == nil && u.body.Done() && u.sent == u.valid
}

// verdict reports whether the client's side of the upload ends the exchange.
func (u *upload) verdict() (verdict, bool) {
	switch bad := (*http1.Error)(nil); {
	case u.failed == nil:
		return 0, false
	case errors.As(u.failed, &bad):
		return u.x.giveUp(badRequest(bad)), true
	}
	return u.x.abandon(), true
}

// clientGone reports whether reading from the client failed.
func (u *upload) clientGone() bool {
	return u.failed != nil && !errors.As(u.failed, new(*http1.Error))
}

// giveBack returns what came behind the body to the session: the next request.
func (u *upload) giveBack() {
	if !u.body.Done() || u.valid >= u.filled {
		return
	}
	h := u.x.session
	rest := u.buf[u.valid:u.filled]
	if len(rest) > len(h.in) {
		h.in = make([]byte, replaySize)
	}
	h.from, h.to = 0, copy(h.in, rest)
	u.filled = u.valid
}
