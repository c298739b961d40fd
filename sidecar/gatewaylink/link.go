package gatewaylink

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/liveness"
)

// Link is the way to one gateway. Its connection is there only while a stream uses
// it, or while it is being made and may still have its turn. A stream that fails with its
// connection declares it broken, so the next one dials anew at once. The methods may be
// called concurrently.
type Link struct {
	addr string
	id   *identity.Source
	conf *tls.Config

	shown time.Time // end of the newest certificate that the gateway was shown; of ShowRenewals

	mu     sync.Mutex
	conn   *conn // nil: none, or only broken ones
	status Status
}

type conn struct {
	*grpc.ClientConn
	began time.Time
	peer  atomic.Pointer[tls.ConnectionState] // whom the handshake has shown; nil: nobody yet

	users  int // guarded by Link.mu
	broken bool
}

// stands waits until c stands or has failed, of which the first call on it says why;
// false: not before ctx has ended.
func (c *conn) stands(ctx context.Context) bool {
	c.Connect()
	for {
		s := c.GetState()
		if s == connectivity.Ready || s == connectivity.TransientFailure || s == connectivity.Shutdown {
			return true
		}
		if !c.WaitForStateChange(ctx, s) {
			return false
		}
	}
}

// New returns a link to each of the xDS addresses (host:port) of the cluster's
// gateways, in their order. Nothing is dialled yet.
func New(id *identity.Source, gateways []string) ([]*Link, error) {
	if len(gateways) == 0 {
		return nil, errors.New("no gateways: name at least one gateway of this cluster")
	}
	conf := id.HearingTLS("", identity.GatewayOf(id.ID().Cluster), "h2")
	var links []*Link
	for _, addr := range gateways {
		if !slices.ContainsFunc(links, func(l *Link) bool { return l.addr == addr }) {
			links = append(links, &Link{addr: addr, id: id, conf: conf, shown: id.NotAfter(), status: Status{Gateway: addr}})
		}
	}
	return links, nil
}

// Addr returns the gateway's xDS address.
func (l *Link) Addr() string { return l.addr }

// Status returns how things stand now.
func (l *Link) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.status
	st.Registrations = slices.Clone(st.Registrations)
	return st
}

// Update changes the status, under its lock.
func (l *Link) Update(change func(*Status)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.status)
}

// acquire returns the connection to use; it is dialled by the first call on it.
func (l *Link) acquire() (*conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		c := &conn{began: time.Now()}
		conf := l.conf.Clone()
		conf.VerifyConnection = func(cs tls.ConnectionState) error {
			err := l.conf.VerifyConnection(cs)
			if err == nil {
				c.peer.Store(&cs)
			}
			return err
		}
		var err error
		c.ClientConn, err = grpc.NewClient("passthrough:///"+l.addr,
			grpc.WithTransportCredentials(credentials.NewTLS(conf)),
			grpc.WithContextDialer(dial),
			grpc.WithIdleTimeout(0),
			grpc.WithReadBufferSize(connectionBuffer),
			grpc.WithWriteBufferSize(connectionBuffer),
			grpc.WithNoProxy(),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: queueLimit}),
			grpc.WithDisableServiceConfig(),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		)
		if err != nil {
			return nil, err
		}
		l.conn = c
	}
	l.conn.users++
	return l.conn, nil
}

// Usable returns why nothing but bundles is asked for on a link: no peer accepts our own
// certificate.
func (l *Link) Usable() error { return l.id.Err() }

// Judge cuts the connections to gateways that would not be let in any more: what this
// process trusts has changed. Their streams end.
func Judge(links []*Link, log *slog.Logger) {
	for _, l := range links {
		l.mu.Lock()
		if c := l.conn; c != nil {
			if cs := c.peer.Load(); cs != nil {
				if err := l.id.Trust().TrustsRenewed(*cs, identity.GatewayOf(l.id.ID().Cluster)); err != nil {
					log.Warn("ends the connection to a gateway that is not trusted any more", "gateway", l.addr, "err", err)
					c.broken = true
					l.conn = nil
					_ = c.Close() // its users find that out
				}
			}
		}
		l.mu.Unlock()
	}
}

// release gives c back; end is why the stream ended. The last user closes it; a broken one
// is not handed out again. One that is still being made is kept for the next stream.
func (l *Link) release(c *conn, end error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.users--
	c.broken = c.broken || breaks(end)
	if errors.Is(end, errNoConnection) && !c.broken && time.Since(c.began) < queueLimit {
		time.AfterFunc(queueLimit-time.Since(c.began), func() { l.closeUnused(c) })
		return
	}
	l.closeUnusedLocked(c)
}

// closeUnused closes c unless a stream uses it.
func (l *Link) closeUnused(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeUnusedLocked(c)
}

func (l *Link) closeUnusedLocked(c *conn) {
	if l.conn == c && (c.users == 0 || c.broken) {
		l.conn = nil
	}
	if c.users == 0 {
		_ = c.Close() // can only say that it was closed before
	}
}

// IsRefusal reports whether err, the end of a stream, is the answer of a gateway that
// refuses what was asked.
func IsRefusal(err error) bool { return err != nil && !breaks(err) }

// breaks reports whether err, the end of a stream, says something about the whole
// connection: everything does but a refusal of this one stream.
func breaks(err error) bool {
	if err == nil || errors.Is(err, errNoConnection) {
		return false
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.PermissionDenied, codes.AlreadyExists,
		codes.ResourceExhausted, codes.FailedPrecondition, codes.Unimplemented:
		return false
	}
	return true
}

// dial dials a connection that breaks when the gateway falls silent.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: connectLimit}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return liveness.NewConn(c), nil
}
