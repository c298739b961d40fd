package dns

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/limit"
)

// serveTCP serves the connections of l until that is closed.
func (s *Server) serveTCP(ctx context.Context, l net.Listener) {
	s.conns.Accept(ctx, l, drain.AcceptConfig{Max: maxConnections, Log: s.log}, func(conn net.Conn, _ *limit.Stranger) {
		newClientConn(s, conn).run(ctx)
	})
}

// clientConn is one client's TCP connection. Questions for mesh names are answered as
// their answers come; all others go down one connection to a server, and what comes
// back on that goes to the client as it is, so that even a zone transfer passes. Only
// aliases are looked into (see followAlias).
type clientConn struct {
	s        *Server
	client   net.Conn
	original netip.AddrPort // the server that was asked; invalid: not known
	slots    chan struct{}  // bounds the mesh questions that wait
	tasks    sync.WaitGroup

	open *drain.Entry // waits while nothing is unanswered

	writing sync.Mutex // one message at a time to the client

	mu       sync.Mutex
	handled  int           // messages that are being handled here
	upstream net.Conn      // to a server; nil: not now
	pending  map[asked]int // questions on upstream that have no answer yet, and transfers
	ending   bool          // the client asks no more
}

func newClientConn(s *Server, client net.Conn) *clientConn {
	c := &clientConn{s: s, client: client, original: s.originalDestination(client), slots: make(chan struct{}, maxPipelined)}
	c.open = s.conns.Add(func(error) { c.abort() }, client.SetReadDeadline)
	c.open.Waiting(time.Now().Add(tcpIdle))
	return c
}

// run serves the connection to its end, and closes it.
func (c *clientConn) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, c.abort)
	defer stop()
	defer c.open.Remove()
	for {
		packet, err := readMessage(c.client)
		if err != nil {
			break
		}
		c.begin()
		v, zone := c.s.classify(packet)
		if v == perhaps {
			if v = forward; c.s.isInMesh(ctx, packet, zone) { // what comes next waits as well, not for long
				v = ours
			}
		}
		switch v {
		case drop:
			c.s.metrics.dropped.Inc()
			c.finish()
		case malformed:
			c.s.metrics.malformed.Inc()
			c.tell(formerr(packet))
			c.finish()
		case ours:
			c.handle(func() {
				if answer := c.s.answer(ctx, packet, zone, false); answer != nil {
					c.tell(answer)
				}
			})
		case forward:
			if err := c.forward(ctx, packet); err != nil {
				c.s.metrics.forwarded[endFailed].Inc()
				c.s.log.Debug("dns question could not be forwarded", "err", err)
				if answer := servfail(packet); answer != nil {
					c.tell(answer)
				}
			}
			c.finish()
		}
	}
	// What was asked is still answered: a client may end its side first.
	c.end()
	c.tasks.Wait()
	_ = c.client.Close()
}

// begin says that a message has come.
func (c *clientConn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handled++
	c.open.Busy()
	_ = c.client.SetReadDeadline(time.Now().Add(tcpIdle))
}

// finish says that it has been handled: answered, or sent to a server.
func (c *clientConn) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handled--
	switch {
	case c.ending:
	case c.handled == 0 && len(c.pending) == 0:
		c.open.Waiting(time.Now().Add(tcpIdle))
	default:
		_ = c.client.SetReadDeadline(time.Now().Add(tcpIdle))
	}
}

// handle runs what may wait for the control plane, and then finishes. It waits itself
// when as much runs as may.
func (c *clientConn) handle(f func()) {
	c.slots <- struct{}{}
	c.tasks.Go(func() {
		defer func() { <-c.slots }()
		defer c.finish()
		f()
	})
}

// forward sends packet to a server, connecting to one when there is no connection.
func (c *clientConn) forward(ctx context.Context, packet []byte) error {
	question := askedBy(packet)
	c.mu.Lock()
	upstream := c.upstream
	if upstream != nil {
		if len(c.pending) >= maxPending {
			c.mu.Unlock()
			return errTooMany
		}
		c.pending[question]++
	}
	c.mu.Unlock()
	if upstream == nil {
		var err error
		if upstream, err = c.s.dialTCP(ctx, c.original); err != nil {
			return err
		}
		c.mu.Lock()
		c.upstream, c.pending = upstream, map[asked]int{question: 1}
		c.mu.Unlock()
		if ctx.Err() != nil {
			c.abort() // which may have come before there was an upstream
		}
		c.tasks.Go(func() { c.copyBack(ctx, upstream) })
	}
	_ = upstream.SetWriteDeadline(time.Now().Add(writeLimit))
	// Its fate is copyBack's to tell: the server has closed, most likely.
	_ = writeMessage(upstream, packet)
	return nil
}

// copyBack passes what upstream answers to the client until upstream ends. When questions are
// then without an answer, the client's connection ends as upstream did.
func (c *clientConn) copyBack(ctx context.Context, upstream net.Conn) {
	for {
		b, err := readMessage(upstream)
		c.mu.Lock()
		if err != nil {
			broken := len(c.pending) > 0
			c.upstream = nil
			c.mu.Unlock()
			_ = upstream.Close()
			if broken {
				c.s.metrics.forwarded[endFailed].Inc()
				_ = c.client.Close()
			}
			return
		}
		mine := c.settleLocked(b)
		if mine {
			c.handled++
		}
		if c.ending {
			_ = upstream.SetReadDeadline(c.patienceLocked())
		}
		c.mu.Unlock()
		if !mine {
			c.s.metrics.mismatched.Inc()
			continue
		}
		c.s.metrics.forwarded[endAnswered].Inc()
		if !mayEndInMesh(b) {
			c.tell(b)
			c.finish()
			continue
		}
		c.handle(func() { c.tell(c.s.followAlias(ctx, b, b, false)) }) // which has the question, too
	}
}

// settleLocked reports whether a message from the server answers a pending question,
// which then waits no more, unless it is a transfer.
func (c *clientConn) settleLocked(b []byte) bool {
	question := askedBy(b)
	if c.pending[question] == 0 || !question.isAnswer(b) {
		question = ""
		for q := range c.pending { // an answer that does not repeat its question
			if q.isAnswer(b) {
				question = q
				break
			}
		}
		if question == "" {
			return false
		}
	}
	if question.isTransfer() {
		return true
	}
	if c.pending[question]--; c.pending[question] == 0 {
		delete(c.pending, question)
	}
	return true
}

// patienceLocked is until when the server is waited for after the client's last question.
func (c *clientConn) patienceLocked() time.Time {
	if len(c.pending) == 0 {
		return time.Unix(1, 0)
	}
	return time.Now().Add(forwardLimit)
}

// end says that no more questions come: the connection to a server closes when it
// has answered, or soon.
func (c *clientConn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	c.open.Busy()
	if c.upstream == nil {
		return
	}
	_ = c.upstream.SetReadDeadline(c.patienceLocked())
}

// abort ends the connection now, whoever waits for what.
func (c *clientConn) abort() {
	_ = c.client.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.upstream != nil {
		_ = c.upstream.Close()
	}
}

// tell writes a message to the client. A client that does not take it is gone.
func (c *clientConn) tell(b []byte) {
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.client.SetWriteDeadline(time.Now().Add(writeLimit))
	if writeMessage(c.client, b) != nil {
		_ = c.client.Close()
	}
}

// dialTCP connects to the first server that takes it. See servers.
func (s *Server) dialTCP(ctx context.Context, original netip.AddrPort) (net.Conn, error) {
	last := errNoServers
	for _, server := range s.servers(original) {
		conn, err := s.dial(ctx, "tcp", server)
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}

// readMessage reads one message with its length in front (RFC 1035 §4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:])) // at most 64 KiB
	_, err := io.ReadFull(r, b)
	return b, err
}

// writeMessage writes one message with its length in front, at once.
func writeMessage(w io.Writer, b []byte) error {
	out := binary.BigEndian.AppendUint16(make([]byte, 0, len(b)+2), uint16(len(b)))
	_, err := w.Write(append(out, b...))
	return err
}
