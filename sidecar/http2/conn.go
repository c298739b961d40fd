package http2

import (
	"errors"
	"time"
)

const clientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Settings are what one end is made with. The zero value is what a sidecar wants.
type Settings struct {
	// MaxStreams bounds the streams that the peer may have open; 0: DefaultMaxStreams.
	// A client refuses pushed streams whatever it says.
	MaxStreams uint32
	// StreamWindow is how many bytes of a stream may be unread in the beginning; 0:
	// DefaultStreamWindow. Less than 65,535 cannot be had: a peer sends as much before it knows.
	StreamWindow uint32
	// ExtendedConnect offers RFC 8441, in a server.
	ExtendedConnect bool
}

// Conn is one end of one connection. It is not safe for concurrent use.
type Conn struct {
	server   bool
	settings Settings
	err      error // final
	pending  []byte

	// What is read.
	preface  int // bytes of the client's preface that came
	greeted  bool
	data     dataFrame
	block    headBlock
	head     Head
	decoder  decoder
	unacked  int   // SETTINGS of ours that the peer did not acknowledge
	received int64 // what the peer may still send on all streams
	arrived  int64 // what came since it was last given back
	growth   int64 // by how much windows of streams may still grow

	streams table
	recent  recent
	lastID  uint32 // the highest stream that the peer opened
	openID  uint32 // the next stream that we open
	budgets budgets
	elapsed time.Duration // of a second that is not over

	// What is written.
	peer    peerSettings
	window  int64 // what we may still send on all streams
	waiting bool  // AppendData was stopped by window
	encoder encoder
	open    openHead

	drain      drain
	goAwayID   uint32 // the last stream that the peer will process of ours
	goAwayCame bool
}

// NewServer returns the end that accepted a connection.
func NewServer(s Settings) *Conn { return newConn(true, s) }

// NewClient returns the end that opened a connection.
func NewClient(s Settings) *Conn { return newConn(false, s) }

func newConn(server bool, s Settings) *Conn {
	if s.MaxStreams == 0 {
		s.MaxStreams = DefaultMaxStreams
	}
	if s.StreamWindow == 0 {
		s.StreamWindow = DefaultStreamWindow
	}
	s.StreamWindow = min(max(s.StreamWindow, defaultWindow), maxWindow)
	c := &Conn{
		server: server, settings: s, received: ConnWindow, growth: Growth, window: defaultWindow, openID: 1,
		peer: defaultPeerSettings(), goAwayID: maxStreamID,
	}
	if !server {
		c.preface = len(clientPreface)
	}
	c.decoder.init()
	c.encoder.init()
	c.budgets.init()
	return c
}

// Start appends what an end sends first: the client's preface, SETTINGS and the
// connection's window.
func (c *Conn) Start(out []byte) []byte {
	if !c.server {
		out = append(out, clientPreface...)
	}
	out = c.appendSettings(out)
	return appendUint32Frame(out, frameWindowUpdate, 0, ConnWindow-defaultWindow)
}

// Next consumes one frame from the start of in, or the part of a DATA frame that is
// there, and says in ev what it means. n == 0 without an error means that in holds less
// than that: call again with more behind the same bytes; MinBuffer bytes are always
// enough. An error is an [*Error] and final: write [Conn.Output], then close.
func (c *Conn) Next(in []byte, ev *Event) (n int, err error) {
	*ev = Event{}
	if c.err != nil {
		return 0, c.err
	}
	if n, err = c.next(in, ev); err != nil {
		return 0, c.fail(err)
	}
	return n, nil
}

// Output appends what the engine itself has to say: acknowledgements, windows, resets
// of streams with faults. The driver takes it after a round of Next and Consumed; all
// Append… methods take it along.
func (c *Conn) Output(out []byte) []byte {
	out = append(out, c.pending...)
	c.pending = c.pending[:0]
	return out
}

// HasOutput reports whether Output would append something.
func (c *Conn) HasOutput() bool { return len(c.pending) > 0 }

// Trim gives back the memory that streams need, while there are none: for a connection
// that has been idle for a while.
func (c *Conn) Trim() {
	if c.streams.n > 0 || c.block.open || len(c.pending) > 0 {
		return
	}
	c.streams, c.head, c.pending = table{}, Head{}, nil
	c.decoder.scratch, c.decoder.carry, c.encoder.name, c.encoder.value = nil, nil, nil, nil
}

// Err returns the connection error that ended c, nil before.
func (c *Conn) Err() error { return c.err }

// Streams returns how many streams are open.
func (c *Conn) Streams() int { return c.streams.n }

// fail ends the connection with GOAWAY.
func (c *Conn) fail(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{InternalError, err.Error()}
	}
	c.err = e
	c.pending = appendGoAway(c.pending, c.lastTaken(), e.Code, e.Text)
	return e
}

func (c *Conn) next(in []byte, ev *Event) (int, error) {
	switch {
	case c.data.active:
		return c.nextData(in, ev), nil
	case c.preface < len(clientPreface):
		return c.nextPreface(in)
	case len(in) < frameHeaderSize:
		return 0, nil
	}
	h := parseFrameHeader(in)
	if h.length > MaxFrame {
		return 0, ErrFrameTooLarge
	}
	if !c.greeted {
		if h.typ != frameSettings || h.has(flagAck) {
			return 0, ErrFirstFrame
		}
		c.greeted = true
	}
	if c.block.open != (h.typ == frameContinuation) {
		return 0, ErrContinuation
	}
	if h.typ == frameData {
		return c.startData(h, in, ev)
	}
	n := frameHeaderSize + h.length
	if len(in) < n {
		return 0, nil
	}
	if err := c.frame(h, in[frameHeaderSize:n], ev); err != nil {
		return 0, err
	}
	if len(c.pending) > maxPending {
		return 0, ErrNotReading
	}
	return n, nil
}

func (c *Conn) nextPreface(in []byte) (int, error) {
	n := min(len(in), len(clientPreface)-c.preface)
	if string(in[:n]) != clientPreface[c.preface:c.preface+n] {
		return 0, ErrPreface
	}
	c.preface += n
	return n, nil
}

func (c *Conn) frame(h frameHeader, p []byte, ev *Event) error {
	switch h.typ {
	case frameHeaders:
		return c.receiveHeaders(h, p, ev)
	case frameContinuation:
		return c.receiveContinuation(h, p, ev)
	case framePriority:
		return c.receivePriority(h, p, ev)
	case frameResetStream:
		return c.receiveReset(h, p, ev)
	case frameSettings:
		return c.receiveSettings(h, p, ev)
	case framePushPromise:
		return ErrPush
	case framePing:
		return c.receivePing(h, p, ev)
	case frameGoAway:
		return c.receiveGoAway(h, p, ev)
	case frameWindowUpdate:
		return c.receiveWindowUpdate(h, p, ev)
	}
	return c.budgets.spend(useless) // RFC 9113 §4.1: unknown types are ignored
}

// receivePriority ignores priorities (RFC 9113 §5.3.2).
func (c *Conn) receivePriority(h frameHeader, p []byte, ev *Event) error {
	if h.stream == 0 {
		return ErrStreamZero
	}
	if err := c.budgets.spend(priority); err != nil {
		return err
	}
	switch {
	case len(p) != 5:
		return c.streamFault(h.stream, FrameSizeError, "PRIORITY of another length than 5", ev)
	case dependsOnItself(h.stream, p):
		return c.streamFault(h.stream, ProtocolError, "stream that depends on itself", ev)
	}
	return nil
}

func (c *Conn) receivePing(h frameHeader, p []byte, ev *Event) error {
	switch {
	case h.stream != 0:
		return ErrNotStreamZero
	case len(p) != 8:
		return ErrFrameLength
	case h.has(flagAck):
		c.pingAcked(p, ev)
		return nil
	}
	c.pending = append(appendFrameHeader(c.pending, 8, framePing, flagAck, 0), p...)
	return c.budgets.spend(pings)
}

// AppendPing appends a PING, for a driver that measures or watches its peer. The answer
// comes as KindPingAck.
func (c *Conn) AppendPing(out []byte, payload [8]byte) []byte {
	out = appendFrameHeader(c.Output(out), 8, framePing, 0, 0)
	return append(out, payload[:]...)
}
