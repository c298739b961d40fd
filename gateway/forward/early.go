package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/relay"
)

var errEndedEarly = errors.New("the client ended before its TLS ClientHello")

// early is the payload that a client sends before its path is open. It is kept
// whole, so that every attempt gets all of it, and given out only once it is
// known to begin a TLS ClientHello. When maxReplay bytes are kept it reads no
// further and the client waits.
type early struct {
	src relay.Conn

	mu       sync.Mutex
	data     []byte // grows at its end; the bytes in it never change
	hello    bool   // data begins a ClientHello
	err      error  // the client broke, ended before its ClientHello, or sent something else
	sealed   bool   // no more is added: the path is open, or will not be
	started  bool
	changed  chan struct{} // closed and replaced at every change of the above
	finished chan struct{} // closed when pump has ended
}

// newEarly returns the early payload of src, of which first was already read.
func newEarly(src relay.Conn, first []byte) *early {
	e := &early{src: src, changed: make(chan struct{}), finished: make(chan struct{})}
	e.add(first, nil)
	return e
}

// start begins to read. stop must follow.
func (e *early) start() {
	e.started = true
	go e.pump()
}

// stop ends reading without losing a byte and returns all that was read. src is
// the caller's again, without a read deadline.
func (e *early) stop() []byte {
	if e.started {
		_ = e.src.SetReadDeadline(time.Unix(1, 0)) // wakes pump's Read
		<-e.finished
		_ = e.src.SetReadDeadline(time.Time{})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sealed = true
	e.notifyLocked()
	return e.data
}

func (e *early) pump() {
	defer close(e.finished)
	buf := make([]byte, firstRead)
	for {
		n, err := e.src.Read(buf)
		if !e.add(buf[:n], err) {
			return
		}
	}
}

// add takes what a Read of src gave and reports whether to read on.
func (e *early) add(b []byte, err error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.data = append(e.data, b...)
	if !e.hello && e.err == nil {
		e.hello, e.err = beginsHello(e.data)
	}
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false // stop
	case !errors.Is(err, io.EOF):
		err = fmt.Errorf("read from the client: %w", err)
		if e.err == nil {
			e.err = err
		}
	case !e.hello && e.err == nil:
		e.err = errEndedEarly
	}
	e.notifyLocked()
	return err == nil && e.err == nil && len(e.data)+firstRead <= maxReplay
}

func (e *early) notifyLocked() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// look returns the payload beyond off as far as it may be sent, whether no more
// will be added, a channel that closes when any of that has changed, and what
// the client did wrong.
func (e *early) look(off int) (b []byte, sealed bool, changed <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hello {
		b = e.data[off:len(e.data):len(e.data)]
	}
	return b, e.sealed, e.changed, e.err
}

// verified waits until the payload is known to begin a ClientHello, and returns
// why it does not, or ctx's cause.
func (e *early) verified(ctx context.Context) error {
	for {
		b, _, changed, err := e.look(0)
		switch {
		case err != nil:
			return err
		case len(b) > 0:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// broken waits until the client did something wrong, or ctx ends, and returns
// what; nil when ctx ended or the payload was sealed first.
func (e *early) broken(ctx context.Context) error {
	for {
		_, sealed, changed, err := e.look(0)
		if err != nil || sealed {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// writeTo writes head and then the payload as it comes, until it is sealed and
// all is written, a write fails, or ctx ends.
func (e *early) writeTo(ctx context.Context, w io.Writer, head []byte) error {
	b, _, _, _ := e.look(0)
	off := len(b)
	// One write for the head and what is there, so that they leave in one packet.
	if _, err := w.Write(append(head, b...)); err != nil {
		return err
	}
	for {
		b, sealed, changed, _ := e.look(off)
		if len(b) > 0 {
			if _, err := w.Write(b); err != nil {
				return err
			}
			off += len(b)
			continue
		}
		if sealed {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
