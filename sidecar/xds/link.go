package xds

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/liveness"
)

// link is the way to one gateway: a connection that the ADS stream and the
// registration stream share, there only while one of them uses it. A stream that
// fails with its connection declares it broken, so the next one dials anew at
// once: when to try again is decided by the callers, not by gRPC's own backoff.
type link struct {
	addr string
	tls  credentials.TransportCredentials

	mu      sync.Mutex
	conn    *conn // nil: none, or only broken ones
	status  GatewayStatus
	exposed bool // the gateway may hold the registration
}

type conn struct {
	*grpc.ClientConn
	users  int // guarded by link.mu
	broken bool
}

func newLink(addr string, cfg *Config) *link {
	return &link{
		addr:   addr,
		tls:    credentials.NewTLS(cfg.Identity.ClientTLS("", identity.GatewayOf(cfg.Cluster), "h2")),
		status: GatewayStatus{Gateway: addr},
	}
}

// acquire returns the connection to use; it is dialled by the first call on it.
func (l *link) acquire() (*conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		cc, err := grpc.NewClient("passthrough:///"+l.addr,
			grpc.WithTransportCredentials(l.tls),
			grpc.WithContextDialer(dial),
			grpc.WithIdleTimeout(0),
			grpc.WithReadBufferSize(connectionBuffer),
			grpc.WithWriteBufferSize(connectionBuffer),
			grpc.WithNoProxy(),
			grpc.WithDisableServiceConfig(),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		)
		if err != nil {
			return nil, err
		}
		l.conn = &conn{ClientConn: cc}
	}
	l.conn.users++
	return l.conn, nil
}

// release gives c back. The last user closes it; a broken one is not handed out
// again.
func (l *link) release(c *conn, broken bool) {
	l.mu.Lock()
	c.users--
	c.broken = c.broken || broken
	last := c.users == 0
	if l.conn == c && (last || c.broken) {
		l.conn = nil
	}
	l.mu.Unlock()
	if last {
		_ = c.Close() // can only say that it was closed before
	}
}

// breaks reports whether err, the end of a stream, says something about the whole
// connection: everything does but a refusal of this one stream.
func breaks(err error) bool {
	if err == nil {
		return false
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.PermissionDenied, codes.AlreadyExists,
		codes.ResourceExhausted, codes.FailedPrecondition, codes.Unimplemented:
		return false
	}
	return true
}

// note changes the status under the lock.
func (l *link) note(change func(*GatewayStatus)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.status)
}

// mayHold reports whether the gateway may hold the registration.
func (l *link) mayHold() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.exposed
}

func (l *link) snapshot() GatewayStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// dial dials a connection that breaks when the gateway falls silent.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: answerLimit}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return liveness.NewConn(c), nil
}
