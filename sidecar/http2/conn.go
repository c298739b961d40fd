package http2

import "time"

const clientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Conn is one end of one connection. It is not safe for concurrent use.
type Conn struct {
	server   bool
	settings Settings // ours
	peer     PeerSettings
	err      error  // final
	pending  []byte // what the engine itself has to say

	receiver receiver
	head     headWriter // that is being written

	streams streamSet
	send    sendWindow    // of all streams together
	receive receiveWindow // of all streams together
	goAway  goAway
	budgets budgets
	elapsed time.Duration // of a second that is not over
}

// NewServer returns the end that accepted a connection.
func NewServer(s Settings) *Conn { return newConn(true, s) }

// NewClient returns the end that opened a connection.
func NewClient(s Settings) *Conn { return newConn(false, s) }

func newConn(server bool, s Settings) *Conn {
	s = s.withDefaults()
	c := &Conn{
		server: server, settings: s, peer: defaultPeerSettings(),
		streams: streamSet{server: server, nextID: 1, window: int64(s.StreamWindow), growth: Growth},
		send:    sendWindow{left: defaultWindow},
		receive: receiveWindow{size: ConnWindow, left: ConnWindow},
		goAway:  goAway{peerLast: maxStreamID},
	}
	c.receiver.conn = c
	if !server {
		c.receiver.framing.preface = len(clientPreface)
	}
	c.receiver.block.decoder.init()
	c.head.encoder.init()
	c.budgets.init()
	return c
}

// Start appends what an end sends first: the client's preface, SETTINGS and the
// connection's window.
func (c *Conn) Start(out []byte) []byte {
	if !c.server {
		out = append(out, clientPreface...)
	}
	out = c.settings.appendFrame(out, c.server)
	c.receiver.unacked++
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
	if n, err = c.receiver.next(in, ev); err != nil {
		return 0, c.receiver.connectionFault(err)
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

// Consumed says that a reader has taken n bytes of the stream's payload: the peer may
// send as many more. It is told in Output once it is half of the window, which grows
// when the peer has nearly filled it meanwhile.
func (c *Conn) Consumed(id uint32, n int) {
	if s := c.streams.find(id); s != nil {
		c.free(s, int64(n))
	}
}

// free says that n bytes of the stream do not count for its window any more.
func (c *Conn) free(s *stream, n int64) {
	if update := c.streams.free(s, n); update > 0 {
		c.pending = appendUint32Frame(c.pending, frameWindowUpdate, s.id, uint32(update))
	}
}

// Trim gives back the memory that streams need, while there are none: for a connection
// that has been idle for a while.
func (c *Conn) Trim() {
	if c.streams.n > 0 || c.receiver.framing.block || len(c.pending) > 0 {
		return
	}
	c.streams.table, c.pending = table{}, nil
	c.receiver.block.trim()
	c.head.encoder.name, c.head.encoder.value = nil, nil
}

// Streams returns how many streams are open.
func (c *Conn) Streams() int { return c.streams.n }

// Peer returns what the peer allows, as its last SETTINGS say. It is the Conn's, and for reading.
func (c *Conn) Peer() *PeerSettings { return &c.peer }
