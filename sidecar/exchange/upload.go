package exchange

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// upload carries the part of a request's body that did not come with its head; nil
// is one that did. For each attempt it runs on a goroutine of its own, which the
// exchange ends with stop or awaits with sentWhole. From start to its end the unguarded
// fields are the goroutine's; otherwise they are the exchange's.
type upload struct {
	client     clientEnd
	bounds     bounds
	expects    bool           // the client waits for leave to send
	host       hostEnd        // of the attempt
	replay                    // buf
	body       http1.Body     // the framing behind buf[:valid]
	valid      int            // buf[:valid] is body, to be sent
	filled     int            // buf[valid:filled] has arrived and is not a whole line yet
	sent       int            // of buf[:valid] on this attempt
	lost       atomic.Bool    // buf does not begin with the body any more; the exchange may look
	err        error          // reading from the client, or what it sent, was wrong
	writeLimit streamDeadline // of the attempt

	continued bool // 100 (Continue) went down; the exchange's

	begun atomic.Bool  // the answer has: nothing is sent again
	moved atomic.Int64 // unix nanoseconds of the last progress, the answer's included
	ended chan struct{}

	mu      sync.Mutex
	stopped bool
}

// newUpload takes over what arrived of the body.
func newUpload(x *exchange) *upload {
	u := &upload{client: x.end, bounds: x.bounds, expects: x.req.Expects(), body: x.body}
	u.take(x.end, len(x.first)+x.to-x.from)
	u.valid = copy(u.buf, x.first) // at most http1.MaxHead, as all of session.in
	u.filled = u.valid + copy(u.buf[u.valid:], x.in[x.from:x.to])
	x.from = x.to
	u.recordMoved()
	return u
}

// release gives the buffer back, after the goroutine has ended.
func (u *upload) release() {
	u.stop()
	u.give()
}

// rewind returns what is to be sent right behind the head of an attempt.
func (u *upload) rewind() []byte {
	u.sent = u.valid
	return u.buf[:u.valid]
}

// start begins the attempt's goroutine, unless the whole body is sent already.
func (u *upload) start(host hostEnd) {
	if u == nil {
		return
	}
	u.stopped = false
	if u.body.Done() {
		return
	}
	u.host, u.writeLimit = host, streamDeadline{}
	u.ended = make(chan struct{})
	go u.run()
}

func (u *upload) run() {
	defer close(u.ended)
	for {
		if u.sent < u.valid {
			u.writeLimit.extend(time.Now(), u.bounds, u.host.SetWriteDeadline)
			if _, err := u.host.Write(u.buf[u.sent:u.valid]); err != nil {
				return // the exchange reads the answer, or why there is none
			}
			u.sent = u.valid
			u.recordMoved()
		}
		if u.body.Done() {
			return
		}
		if full := len(u.buf)-u.filled < minRead; full && u.grow() {
			continue
		} else if full || u.lost.Load() || u.begun.Load() {
			u.lost.Store(true)
			u.filled = copy(u.buf, u.buf[u.valid:u.filled])
			u.valid, u.sent = 0, 0
		}
		if !u.arm() {
			return
		}
		n, err := u.read()
		u.filled += n
		k, bad := u.body.Scan(u.buf[u.valid:u.filled])
		u.valid += k
		switch {
		case bad != nil:
			u.breakOff(bad)
			return
		case n == 0 && connect.IsTimeout(err) && u.mayCome():
			continue
		case err != nil && !u.body.Done():
			u.breakOff(err)
			return
		}
		u.recordMoved()
	}
}

// mayCome reports whether it is of use to wait on for more, after a read of which nothing came
// in time: while the answer goes on the client may listen.
func (u *upload) mayCome() bool {
	return !u.bounds.over(time.Now()) && u.bounds.idle > 0 && u.idleFor() < u.bounds.idle
}

// read reads behind what has arrived. While nothing comes it holds no buffer, unless what is
// in it may have to be sent again.
func (u *upload) read() (int, error) {
	if !u.client.ready() && u.filled == 0 {
		u.give()
		err := u.client.await()
		u.take(u.client, 0)
		if err != nil {
			return 0, err
		}
	}
	return u.client.Read(u.buf[u.filled:])
}

// arm sets the deadline for reading from the client, unless we are to stop.
func (u *upload) arm() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stopped {
		return false
	}
	_ = u.client.SetReadDeadline(u.bounds.deadline(time.Now()))
	return true
}

// breakOff ends the attempt because the body cannot be had: the exchange, which waits
// for an answer, sees the connection break.
func (u *upload) breakOff(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stopped {
		return // it was we who ended the read
	}
	u.err = err
	_ = u.host.Abort()
}

func (u *upload) recordMoved() { u.moved.Store(time.Now().UnixNano()) }

// idleFor returns for how long nothing has moved.
func (u *upload) idleFor() time.Duration {
	return time.Duration(time.Now().UnixNano() - u.moved.Load())
}

// stop ends the goroutine and, with it, the attempt's connection, unless the
// whole body went out.
func (u *upload) stop() {
	if u == nil || u.ended == nil {
		return
	}
	select {
	case <-u.ended:
	default:
		u.mu.Lock()
		u.stopped = true
		_ = u.client.SetReadDeadline(time.Unix(1, 0))
		u.mu.Unlock()
		_ = u.host.Abort()
		<-u.ended
	}
	u.ended = nil
}

// running reports whether the goroutine is at work.
func (u *upload) running() bool {
	if u == nil || u.ended == nil {
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
// is gone.
func (u *upload) cut() bool {
	if u == nil {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stopped
}

// stopReplayable ends the goroutine and reports whether all that was taken of the
// body is still here.
func (u *upload) stopReplayable() bool {
	if u == nil {
		return true
	}
	u.stop()
	return !u.lost.Load() && u.err == nil
}

// outgrown reports whether what was taken of the body is not all here any more, also while the
// goroutine runs.
func (u *upload) outgrown() bool { return u != nil && u.lost.Load() }

// kept reports whether all of the body has come and is still here: in buf[:valid]. The goroutine has
// ended.
func (u *upload) kept() bool { return !u.running() && u.err == nil && !u.lost.Load() && u.body.Done() }

// rest says what is to become of a body that is not wholly with the server when the
// answer's head has come.
type rest uint8

const (
	none     rest = iota // there is none: all of it was sent
	wanted               // the server may go on reading it
	unwanted             // the server ends its connection, does not read on, or the client waits for leave to send
)

// rest says it; keepAlive is what the server says of its connection.
func (u *upload) rest(keepAlive bool) rest {
	switch {
	case u == nil || !u.running() && u.whole():
		return none
	case !keepAlive || !u.running() || u.expects && !u.continued:
		return unwanted
	}
	return wanted
}

// whole reports whether all of the body was sent, once the goroutine has ended.
func (u *upload) whole() bool { return u.err == nil && u.body.Done() && u.sent == u.valid }

// sentWhole waits for the rest of the body once the answer is complete, and reports
// whether all of it was sent. A body that nobody takes any more is cut: at once
// when that is known, else when it stands still.
func (u *upload) sentWhole(unwanted bool) bool {
	if u == nil {
		return true
	}
	if !unwanted {
		pause := lingerTimeout / 1000
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for u.running() && u.idleFor() < lingerTimeout && !u.host.closed() {
			select {
			case <-u.ended:
			case <-tick.C:
				pause = min(2*pause, lingerTimeout/5)
				tick.Reset(pause)
			}
		}
	}
	u.stop()
	return u.whole()
}

// discard reads what is left of the body for nobody, once the answer is complete and
// the goroutine has ended, and reports whether the next request can be told from it:
// a client that was told that its connection stays must be able to rely on that (RFC
// 9112 §9.6). A body without an end is left.
func (u *upload) discard() bool {
	for left := maxDiscard; u.err == nil && !u.body.Done(); {
		u.filled = copy(u.buf, u.buf[u.valid:u.filled])
		u.valid, u.sent = 0, 0
		if left <= 0 || u.filled == len(u.buf) {
			return false
		}
		_ = u.client.SetReadDeadline(time.Now().Add(lingerTimeout))
		n, err := u.client.Read(u.buf[u.filled:])
		left -= n
		u.filled += n
		k, bad := u.body.Scan(u.buf[:u.filled])
		u.valid = k
		if bad != nil {
			err = bad
		}
		if err != nil && !u.body.Done() {
			u.err = err
		}
	}
	return u.err == nil
}

// malformed returns what is wrong with the body's framing.
func (u *upload) malformed() error {
	if u == nil || !errors.As(u.err, new(*http1.Error)) {
		return nil
	}
	return u.err
}

// clientGone reports whether reading from the client failed, and not for lack of time.
func (u *upload) clientGone() bool {
	return u != nil && u.err != nil && u.malformed() == nil && !u.bounds.over(time.Now())
}

// leftover returns what came behind the body, once.
func (u *upload) leftover() []byte {
	if u == nil || !u.body.Done() {
		return nil
	}
	rest := u.buf[u.valid:u.filled]
	u.filled = u.valid
	return rest
}

// arrived reports whether the whole body has; behind is its framing behind what came
// with the head.
func (u *upload) arrived(behind *http1.Body) bool {
	if u == nil {
		return behind.Done()
	}
	return u.body.Done()
}
