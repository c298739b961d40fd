package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

const (
	// tunnelHeadTimeout bounds the head of a request on a tunnel stream.
	tunnelHeadTimeout = 10 * time.Second

	// tunnelIdleTimeout bounds the wait for another request on one: ours have one each.
	tunnelIdleTimeout = 10 * time.Second

	maxTunnelHead = 16 << 10 // bytes
)

// serveTunnels answers what other gateways ask on tunnel streams.
func (g *Gateway) serveTunnels(ctx context.Context) error {
	fed := g.federation.Handler()
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodConnect && r.Host != federation.GossipAuthority {
				if s, ok := tunnel.StreamFrom(r.Context()); ok {
					s.CarriesPath()
				}
				g.forward.ServeTunnel(w, r)
				return
			}
			fed.ServeHTTP(w, r)
		}),
		ConnContext:       tunnel.ConnContext,
		ReadHeaderTimeout: tunnelHeadTimeout,
		IdleTimeout:       tunnelIdleTimeout,
		MaxHeaderBytes:    maxTunnelHead,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	err := srv.Serve(g.tunnel.Listener())
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
