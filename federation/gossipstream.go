package federation

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/gossip"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// gossipConn is a stream of memberlist's. Each end says one thing on it: what the peer
// says is read whole and checked before memberlist reads a byte of it.
type gossipConn struct {
	net.Conn
	transport *transport
	from      mesh.GatewayID
	peer      io.Reader                       // what it says, behind the heads
	check     func(io.Reader) ([]byte, error) // reads it; nil: it was read
	left      []byte                          // checked, and not read by memberlist yet
	once      sync.Once
	closed    chan struct{}
}

// Read is called by one goroutine.
func (c *gossipConn) Read(b []byte) (int, error) {
	if check := c.check; check != nil {
		c.check = nil
		peer := &noting{Reader: c.peer}
		var err error
		if c.left, err = checked(func() ([]byte, error) { return check(peer) }); err != nil {
			if peer.err == nil && !errors.Is(err, io.EOF) { // it said something, and that is the fault
				c.transport.metrics.streamsRefused.Inc()
				c.transport.refused(c.from, err)
			}
			return 0, err
		}
	}
	if len(c.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.left)
	c.left = c.left[n:]
	return n, nil
}

// noting keeps why reading has failed, but for the end.
type noting struct {
	io.Reader
	err error
}

func (n *noting) Read(b []byte) (int, error) {
	read, err := n.Reader.Read(b)
	if !errors.Is(err, io.EOF) {
		n.err = err
	}
	return read, err
}

// Close closes the stream, once.
func (c *gossipConn) Close() (err error) {
	c.once.Do(func() {
		err = c.Conn.Close()
		close(c.closed)
	})
	return err
}

// connectGossip asks for a gateway's memberlist on a new stream.
func connectGossip(s *tunnel.Stream, timeout time.Duration) (*gossipConn, error) {
	if err := s.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(s, "CONNECT gossip HTTP/1.1\r\nHost: gossip\r\n\r\n"); err != nil {
		return nil, err
	}
	// Only the head is bounded here: package gossip bounds what follows.
	head := &io.LimitedReader{R: s, N: 16 << 10}
	r := bufio.NewReader(head)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // the answer to CONNECT has none
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %s", resp.Status)
	}
	return &gossipConn{Conn: s, peer: io.MultiReader(io.LimitReader(r, int64(r.Buffered())), s), closed: make(chan struct{})}, nil
}

// serveGossip reads what a gateway says to memberlist, hands it the stream and waits
// until that closes it.
func (t *transport) serveGossip(w http.ResponseWriter, r *http.Request, peer mesh.GatewayID) {
	h, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "not a stream", http.StatusInternalServerError)
		return
	}
	c, rw, err := h.Hijack()
	if err != nil {
		return
	}
	g := &gossipConn{Conn: c, transport: t, from: peer, peer: rw.Reader, check: gossip.Check{Self: t.self, Peer: peer}.Stream, closed: make(chan struct{})}
	if err := c.SetDeadline(time.Now().Add(gossipStreamTimeout)); err != nil {
		_ = g.Close()
		return
	}
	if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		_ = g.Close()
		return
	}
	// Here, and not in memberlist's goroutine: a slow peer keeps nothing of it waiting.
	if _, err := g.Read(nil); err != nil {
		_ = g.Close()
		return
	}
	if !t.serve(r.Context(), g) {
		_ = g.Close()
		return
	}
	<-g.closed // memberlist sets a deadline on every read and write
}

// gossipStreams counts the streams that are served, at most maxGossipStreams of which
// maxPeerGossipStreams are one peer's.
type gossipStreams struct {
	mu    sync.Mutex
	all   int
	peers map[mesh.GatewayID]int
}

// start reports whether another may be served; then end must be called.
func (s *gossipStreams) start(peer mesh.GatewayID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= maxGossipStreams || s.peers[peer] >= maxPeerGossipStreams {
		return false
	}
	s.all++
	s.peers[peer]++
	return true
}

func (s *gossipStreams) end(peer mesh.GatewayID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.peers[peer]--; s.peers[peer] == 0 {
		delete(s.peers, peer)
	}
}
