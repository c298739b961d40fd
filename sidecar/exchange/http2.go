package exchange

import (
	"context"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// ServeHTTP2 is [Server.Serve] for a connection that speaks HTTP/2, of which each stream is an
// exchange of its own. With a refusal each is answered with it.
func (s *Server) ServeHTTP2(ctx context.Context, c *Client, rewrite http1.RequestRewrite, refusal error) {
	s.Metrics.httpConnections().Inc()
	defer s.Metrics.httpConnections().Dec()
	defer c.Close()
	idle := idleTimeout
	if refusal != nil {
		idle = refusedIdleTimeout
	}
	_ = c.SetReadDeadline(time.Time{})
	cfg := streams.Config{Idle: idle, ExtendedConnect: true, Unread: s.Unread}
	if s.Outbound && !rewrite.Outside {
		cfg.MaxStreams = programStreams
	}
	shared := streams.Server(c.Conn, cfg)
	h := &sharedClient{s: s, ctx: ctx, client: c, rewrite: rewrite, refusal: refusal}
	c.Open.OnDrain(shared.Drain)
	if err := shared.Serve(h.serve); err != nil {
		s.Log.Debug("an HTTP/2 connection broke", "peer_addr", c.PeerAddr(), "err", err)
	}
}

// sharedClient is a connection of a client whose exchanges are streams of it.
type sharedClient struct {
	s       *Server
	ctx     context.Context // over when everything must end at once
	client  *Client
	rewrite http1.RequestRewrite
	refusal error

	mu      sync.Mutex
	streams int // that are served
}

// serve serves one stream, on its goroutine.
func (h *sharedClient) serve(stream *streams.Stream) {
	h.count(1)
	defer h.count(-1)
	c := clientStreams.Get().(*clientStream)
	c.session = session{buffers: takeStreamBuffers(), s: h.s, ctx: h.ctx, client: &c.own, end: c, rewrite: h.rewrite, refusal: h.refusal}
	c.own.reset(stream, h.client)
	c.take(stream)
	switch {
	case !c.readHead():
	case c.req.Method == http1.Connect && h.s.Connect != nil:
		authority := string(c.req.Target())
		c.release()
		c.buffers = nil
		h.s.Connect(h.ctx, h.client, stream, authority)
	case !h.takePlace():
		stream.Reset(http2.RefusedStream) // it may ask another, or later
	default:
		c.serveRequest()
		h.leavePlace()
	}
	c.drop()
	if c.buffers != nil {
		c.release()
	}
	if c.kept {
		if c.own.Open != nil {
			c.own.Open.Remove()
		}
		return
	}
	c.session = session{}
	clientStreams.Put(c)
}

// takePlace counts a request as one more connection of its caller: it may be one to the
// program.
func (h *sharedClient) takePlace() bool {
	return h.s.Places == nil || h.client.Peer == "" || h.s.Places.Take(h.client.Peer)
}

func (h *sharedClient) leavePlace() {
	if h.s.Places != nil && h.client.Peer != "" {
		h.s.Places.Release(h.client.Peer)
	}
}

// count keeps account of whether the connection waits for work.
func (h *sharedClient) count(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch h.streams += n; {
	case h.streams == 0:
		h.client.Open.Waiting(time.Now().Add(idleTimeout))
	case h.streams == n:
		h.client.Open.Busy()
	}
}
