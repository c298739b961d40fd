// Package tlsport is a TCP port at which everybody has proved who he is before anything
// else is done for him: strangers are bounded and handshakes have their turns
// (internal/limit), and who is let in is judged again while the connection is open
// (internal/drain). Behind it is a server of another library, gRPC's mostly
// ([Credentials]), which bounds nothing itself.
package tlsport

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/drain"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
)

// handshakeTimeout is how long the peer may take for its part of a handshake. Waiting
// for a turn does not count.
const handshakeTimeout = 10 * time.Second

// errTooMany is why a peer that has proved who it is does not get in.
var errTooMany = errors.New("this peer has as many connections as one may have")

// callerMultiple is how much one peer may hold of what is free, see [limit.Shares]:
// alone, eight ninths.
const callerMultiple = 8

// Config is what a [Port] is made of. Listener and TLS are required.
type Config struct {
	Listener net.Listener // bound; the port closes it
	TLS      *tls.Config
	// Trusts judges a peer again when the channel that Past returns closes, and when a
	// certificate of its chain ends. Nil: nobody is.
	Trusts func(tls.ConnectionState) error
	Past   func() <-chan struct{}
	// LastWords is for how long a peer that was revoked may still be told so by who is
	// behind the port, before its connection is cut. 0: not at all.
	LastWords time.Duration
	// Seen is told of every handshake that has succeeded; nil: nobody is.
	Seen func(tls.ConnectionState)

	// Watched is what is read through, below TLS: [liveness.NewConn] for a server that
	// pings. Nil: the connection itself.
	Watched func(net.Conn) net.Conn

	Turns     *limit.Turns
	Strangers *limit.Strangers
	// Max bounds the connections, strangers included.
	Max int
	// Short is called when descriptors run out; nil: nobody else has some. It must not
	// block.
	Short func()

	Refused prometheus.Counter // handshakes that failed; nil: nobody counts
	Log     *slog.Logger       // nil: silent
}

// Port is a [net.Listener] of connections whose handshake is done. Its methods may be
// called concurrently.
type Port struct {
	cfg     Config
	open    *drain.Set
	callers *limit.Shares[string] // by SPIFFE ID, or source
	ready   chan *Conn
	closed  chan struct{}
	once    sync.Once
	ctx     context.Context // ends with the port
	cancel  context.CancelFunc
}

// New returns a port that accepts nobody until Run.
func New(cfg Config) *Port {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Port{cfg: cfg, open: drain.NewSet(), ready: make(chan *Conn), closed: make(chan struct{}),
		callers: limit.NewShares[string](cfg.Max, callerMultiple)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Conn is a connection whose handshake is done.
type Conn struct {
	*tls.Conn
	open *drain.Entry
	gone chan struct{} // closed by Close
	once sync.Once
}

// Close ends the connection.
func (c *Conn) Close() error {
	c.open.Remove()
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

// Run shakes hands until the port is closed, and returns when its connections have
// ended. Who accepts them must close them.
func (p *Port) Run() {
	var watch sync.WaitGroup
	if p.cfg.Trusts != nil && p.cfg.Past != nil {
		watch.Go(func() { p.open.Watch(p.ctx, p.cfg.Past) })
	}
	p.open.Accept(p.ctx, p.cfg.Listener, drain.AcceptConfig{
		Max: p.cfg.Max, Strangers: p.cfg.Strangers, Short: p.cfg.Short, Log: p.cfg.Log,
	}, p.serve)
	p.open.Wait()
	_ = p.Close()
	watch.Wait()
}

// serve shakes hands, hands the connection on, and waits for its end.
func (p *Port) serve(below net.Conn, who *limit.Stranger) {
	addr := below.RemoteAddr().String()
	conn, err := p.handshake(below)
	if err != nil {
		if p.cfg.Refused != nil {
			p.cfg.Refused.Inc()
		}
		p.cfg.Log.Debug("connection refused", "peer_addr", addr, "err", err)
		return
	}
	if p.cfg.Seen != nil {
		p.cfg.Seen(conn.ConnectionState())
	}
	peer, proved := holderOf(conn)
	if proved {
		who.Known()
	}
	if !p.callers.Take(peer) {
		p.cfg.Log.Debug("connection refused", "peer_addr", addr, "peer_id", peer, "err", errTooMany)
		return
	}
	defer p.callers.Release(peer)
	c := &Conn{Conn: conn, gone: make(chan struct{})}
	var ends sync.Once
	over := make(chan time.Duration, 1) // in how long the connection is cut
	c.open = p.open.Add(func(cause error) {
		ends.Do(func() {
			p.cfg.Log.Info("a connection ends: its peer is trusted no more", "peer_addr", addr, "peer_id", peer, "err", cause)
			if revoked := (*identity.RevokedError)(nil); errors.As(cause, &revoked) {
				over <- p.cfg.LastWords
				return
			}
			over <- 0
		})
	}, nil) // never nil: nobody drains the port, its user closes the connections
	defer c.open.Remove()
	if p.cfg.Trusts != nil {
		c.open.Proved(conn.ConnectionState(), p.cfg.Trusts)
	}
	select {
	case p.ready <- c:
	case <-p.closed:
		return
	}
	select {
	case <-c.gone:
	case in := <-over:
		t := time.NewTimer(in)
		defer t.Stop()
		select {
		case <-c.gone:
		case <-t.C:
			_ = below.Close() // it is over for us, whatever it says
			<-c.gone
		}
	}
}

func (p *Port) handshake(below net.Conn) (conn *tls.Conn, err error) {
	if p.cfg.Watched != nil {
		below = p.cfg.Watched(below)
	}
	err = p.cfg.Turns.Handshake(below, handshakeTimeout, func(c net.Conn) error {
		conn = identity.Server(c, p.cfg.TLS)
		return conn.HandshakeContext(p.ctx)
	})
	return conn, err
}

// holderOf is under whose name a connection is counted: its peer's SPIFFE ID, or the
// source of who was let in without a certificate, which stays a stranger.
func holderOf(conn *tls.Conn) (name string, proved bool) {
	id, err := identity.PeerID(conn.ConnectionState())
	if err != nil {
		return limit.SourceOf(conn.RemoteAddr()).String(), false
	}
	return id.String(), true
}

// Len returns how many connections there are whose handshake is done.
func (p *Port) Len() int { return p.open.Len() }

// Accept returns the next connection, a [*Conn]. Who accepts it must close it.
func (p *Port) Accept() (net.Conn, error) {
	select {
	case c := <-p.ready:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept, the listener and handshakes that are under way.
func (p *Port) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.cancel()
		_ = p.cfg.Listener.Close() // nobody can do anything about it
	})
	return nil
}

// Addr is the listener's.
func (p *Port) Addr() net.Addr { return p.cfg.Listener.Addr() }
