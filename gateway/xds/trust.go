package xds

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// guests are the connections that got through the handshake. Their streams have
// no natural end, so who they are is looked at again: when a certificate
// expires, and when what this gateway trusts has changed.
type guests struct {
	identity *identity.Source
	check    identity.PeerPolicy
	log      *slog.Logger

	mu   sync.Mutex
	here map[*guest]struct{}
}

// guest is one connection.
type guest struct {
	net.Conn
	among   *guests
	state   tls.ConnectionState
	expires time.Time // the first certificate of the chain to do so
}

// admit counts a connection in; it counts itself out when it is closed.
func (g *guests) admit(c net.Conn, state tls.ConnectionState) net.Conn {
	in := &guest{Conn: c, among: g, state: state}
	for i, cert := range state.PeerCertificates {
		if i == 0 || cert.NotAfter.Before(in.expires) {
			in.expires = cert.NotAfter
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.here[in] = struct{}{}
	return in
}

// Close ends the connection.
func (in *guest) Close() error {
	in.among.mu.Lock()
	delete(in.among.here, in)
	in.among.mu.Unlock()
	return in.Conn.Close()
}

// watch sends away who is trusted no more, until ctx ends.
func (g *guests) watch(ctx context.Context) {
	tick := time.NewTicker(expiryInterval)
	defer tick.Stop()
	past := g.identity.Past()
	for {
		select {
		case <-ctx.Done():
			return
		case <-past:
			past = g.identity.Past()
			g.recheck(func(*guest) bool { return true })
		case now := <-tick.C:
			g.recheck(func(in *guest) bool { return now.After(in.expires) })
		}
	}
}

// recheck closes those of which suspect holds and that would not be let in now.
func (g *guests) recheck(suspect func(*guest) bool) {
	g.mu.Lock()
	var suspects []*guest
	for in := range g.here {
		if suspect(in) {
			suspects = append(suspects, in)
		}
	}
	g.mu.Unlock()
	for _, in := range suspects {
		if err := g.identity.Trusts(in.state, g.check); err != nil {
			g.log.Info("a sidecar's connection ends: its certificate is accepted no more", "addr", in.RemoteAddr().String(), "err", err)
			_ = in.Close() // it is over for us, whatever it says
		}
	}
}
