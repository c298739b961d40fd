package proxy

import (
	"errors"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// errSpeaksHTTP ends the relaying of a caller that was taken for one that does not.
var errSpeaksHTTP = errors.New("the caller was taken for one that speaks no HTTP, and does")

// bytesOnly is a caller of an auto port whose bytes go to the program as they are. Such bytes
// pass by the engine, and with them any identity that they claim: a caller would only have to
// wait until it is taken for one whose server speaks first, or begin with a line that
// [tell] does not know and its program does. So nothing whose first line ends as that of HTTP
// does (RFC 9112 §3) reaches the program whole.
type bytesOnly struct {
	relay.Conn
	answered atomic.Bool // something was written to the caller
	goesOn   atomic.Bool // late is there: the connection is the engine's, once it is relayed no more

	// Of the reading goroutine; late also of who relayed, when that is over.
	line   firstLine
	begun  bool   // the caller has said something
	held   []byte // was read, and is not given yet
	late   []byte // what the caller said: the engine can have it, as nobody has seen it
	failed error
}

// Read gives what the caller says until it says that it speaks HTTP.
func (b *bytesOnly) Read(p []byte) (int, error) {
	switch {
	case len(b.held) > 0:
		n := copy(p, b.held)
		b.held = b.held[n:]
		return n, nil
	case b.failed != nil:
		return 0, b.failed
	case b.line.ended:
		return b.Conn.Read(p)
	}
	into, first := p, !b.begun
	if first {
		into = make([]byte, maxSniffed) // p may be small
	}
	n, err := b.Conn.Read(into)
	b.begun = b.begun || n > 0
	if b.line.add(into[:n]) {
		if first && !b.answered.Load() {
			b.late = into[:n]
			b.goesOn.Store(true)
		}
		b.failed = errSpeaksHTTP
		return 0, b.failed
	}
	if first {
		m := copy(p, into[:n])
		b.held = into[m:n]
		if len(b.held) > 0 {
			b.failed, err = err, nil
		}
		n = m
	}
	return n, err
}

// Source returns what the next Read waits for, nil when it does not: for [relay.Pair].
func (b *bytesOnly) Source() relay.Conn {
	if len(b.held) > 0 || b.failed != nil {
		return nil
	}
	return b.Conn
}

// Write notes that the program has spoken.
func (b *bytesOnly) Write(p []byte) (int, error) {
	b.answered.Store(true)
	return b.Conn.Write(p)
}

// Abort aborts the connection, unless it goes on as one of HTTP.
func (b *bytesOnly) Abort() error {
	if !errors.Is(b.failed, errSpeaksHTTP) || b.late == nil {
		relay.Abort(b.Conn)
	}
	return nil
}

// firstLine finds how the first line ends that is not empty, however it is cut.
type firstLine struct {
	ended bool
	said  bool // of it, more than white space
	gap   bool // white space came last
	at    int  // length of the last word
	is    bool // which begins as a version of HTTP does, as far as it goes
}

// add takes the next bytes, and reports whether the line has ended as one of HTTP: with a
// version.
func (l *firstLine) add(p []byte) bool {
	const version = "HTTP/"
	for _, b := range p {
		switch {
		case l.ended:
			return false
		case b == '\n':
			if l.ended = l.said; l.ended && l.is && l.at > len(version) {
				return true
			}
		case b == ' ' || b == '\t' || b == '\r':
			l.gap = true
		default:
			if l.gap || !l.said {
				l.at, l.is = 0, true
			}
			l.said, l.gap = true, false
			l.is = l.is && (l.at >= len(version) || b&^0x20 == version[l.at]&^0x20)
			l.at++
		}
	}
	return false
}
