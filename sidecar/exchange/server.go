package exchange

import (
	"context"
	"log/slog"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/epoll"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/socket"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/sidecar/http1"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// Server serves the HTTP connections of one listener. Its fields are set before it
// serves and do not change then. Its methods may be called concurrently.
type Server struct {
	Name string // ours in Proxy-Status
	// Service returns where a request goes, and may wait for that to be known. An
	// error that is a [*LocalReply] is answered with it, any other with 503.
	Service  func(context.Context) (*upstream.Service, error)
	Routing  *Routing // the rules of where requests go; nil: there are never any
	Retries  upstream.RetryPolicy
	Timeouts Timeouts
	Relays   *Relays // where upgraded connections are noted
	// Outbound says that who answers may be a sidecar, which says of itself that its
	// program gave no answer.
	Outbound  bool
	Admission *Admission // who may call; nil: everybody
	// Connect serves a plain CONNECT of a connection that speaks HTTP/2, which is shared's:
	// it answers on the stream, which it has until it returns. Nil: refused with 405.
	Connect func(ctx context.Context, shared *Client, stream *streams.Stream, authority string)
	Places  *limit.Shares[string] // of peers, of which each stream takes one for the program's connection; nil: there is no end of them
	Conns   *drain.Set            // of which every [Client.Open] is
	Waiting *epoll.Set            // where idle connections wait; nil: on their goroutines
	Park    time.Duration         // how long an idle connection keeps its goroutine
	Unread  *streams.Unread       // bounds what connections of HTTP/2 hold unread; nil: nothing does
	Log     *slog.Logger          // one line per exchange
	Metrics *BoundMetrics

	date     dateText
	mismatch state.Tally // of clients of another protocol
}

// Serve serves requests on c, by HTTP/1.1 or, when the client begins with its preface, by
// HTTP/2, until either side has enough or, abruptly, ctx ends.
// Every request is given rewrite. With a refusal the first one is answered with it,
// as with an error of Service. What is left when the client is idle is [Client.Rest].
func (s *Server) Serve(ctx context.Context, c *Client, rewrite http1.RequestRewrite, refusal error) {
	if s.serveHTTP1(ctx, c, rewrite, refusal) {
		s.ServeHTTP2(ctx, c, rewrite, refusal)
	}
}

// serveHTTP1 serves requests by HTTP/1.1. It closes the connection, unless it leaves a rest, or
// returns true: then the client speaks HTTP/2, and nothing of that is taken.
func (s *Server) serveHTTP1(ctx context.Context, c *Client, rewrite http1.RequestRewrite, refusal error) (http2 bool) {
	s.Metrics.httpConnections().Inc()
	conn := &clientConn{session: session{buffers: takeBuffers(), s: s, ctx: ctx, client: c, plain: socket.Of(c.Conn), rewrite: rewrite, refusal: refusal, fresh: true}}
	conn.end = conn
	if conn.serve() {
		c.Rest = func(over func()) {
			conn.idle.over = over
			conn.park()
		}
		return false
	}
	conn.leave()
	return conn.http2
}
