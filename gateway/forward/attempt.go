package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/dialerr"
	"github.com/isthmus-mesh/isthmus/internal/liveness"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

var (
	errLost     = errors.New("another attempt was first")
	errNoAnswer = errors.New("no answer")
)

// attempt is one try to open a path by one candidate. Its own goroutine writes
// the fields below until it has reported; then they are its path's.
type attempt struct {
	candidate Candidate
	cancel    context.CancelCauseFunc // aborts it; no effect once it has won

	conn     relay.Conn
	who      connect.Opened // who answered
	rest     []byte         // read from conn behind the reply
	written  chan struct{}  // remote: closed when the early payload is written or writing failed
	writeErr error          // of that; valid after written

	refusal *connect.Refusal // why it failed; nil: it won
}

// remote asks a far gateway. On success the early payload goes on being written
// until it is sealed.
func (r *race) remote(ctx context.Context, a *attempt) *connect.Refusal {
	conn, err := r.f.cfg.Open(ctx, a.candidate.Gateway)
	if err != nil {
		return connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable, "open a stream: %s", connect.Public(err))
	}
	a.conn = conn
	stop := context.AfterFunc(ctx, func() { relay.Abort(conn) })

	request := r.req.Request
	request.Destination.Port = a.candidate.Port
	a.written = make(chan struct{})
	go func() {
		defer close(a.written)
		a.writeErr = r.early.writeTo(ctx, conn, request.Append(make([]byte, 0, firstRead)))
	}()

	a.who, a.rest, err = connect.ReadReply(conn, make([]byte, 0, firstRead))
	if err != nil {
		stop()
		relay.Abort(conn)
		return replyRefusal(ctx, err)
	}
	// Whatever it says: who is named is blamed for what comes of the path.
	a.who.Cluster = a.candidate.Gateway.Cluster
	if !stop() {
		return connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable, "%v", context.Cause(ctx))
	}
	return nil
}

// replyRefusal says why a far gateway's reply, which failed with err, opens no path.
func replyRefusal(ctx context.Context, err error) *connect.Refusal {
	var refusal *connect.Refusal
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, connect.ErrReply):
		return connect.Refuse(http.StatusBadGateway, connect.ProxyInternal, "%s", connect.Public(err))
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return connect.Refuse(http.StatusServiceUnavailable, connect.ConnectionTerminated, "%s", connect.Public(err))
}

// local dials an endpoint of this cluster.
func (r *race) local(ctx context.Context, a *attempt) *connect.Refusal {
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	ep := &a.candidate.Endpoint
	c, err := r.f.cfg.Dial(dial, "tcp", ep.Address)
	if err != nil {
		// Clients are not told addresses.
		r.f.cfg.Log.Debug("endpoint not reached", "service", r.req.Destination.Service.String(), "instance", ep.Instance, "addr", ep.Address, "err", err)
		switch {
		case dialerr.Own(err):
			r.f.metrics.ownFaults.Inc()
			return connect.Refuse(http.StatusServiceUnavailable, connect.ProxyInternal,
				"gateway %s cannot open another connection, whoever serves: %s", r.f.cfg.Self, connect.Public(err))
		case errors.Is(err, syscall.ECONNREFUSED):
			return connect.Refuse(http.StatusBadGateway, connect.ConnectionRefused, "%s", connect.Public(err))
		case connect.IsTimeout(err):
			return connect.Refuse(http.StatusGatewayTimeout, connect.ConnectionTimeout, "does not accept within %s", dialTimeout)
		}
		return connect.Refuse(http.StatusBadGateway, connect.DestinationUnavailable, "%s", connect.Public(err))
	}
	conn, ok := c.(relay.Conn)
	if !ok {
		_ = c.Close()
		return connect.Refuse(http.StatusInternalServerError, connect.ProxyInternal, "the connection has no half-close")
	}
	liveness.KeepAlive(conn)
	r.f.dials.add(conn)
	a.conn = conn
	a.who = connect.Opened{Instance: connect.Instance{Cluster: r.f.cfg.Self.Cluster, Name: ep.Instance}, Weight: max(ep.Weight, 1)}
	return nil
}

// combine says why none of the attempts succeeded.
func combine(req *Request, failed []*attempt) *connect.Refusal {
	last := failed[len(failed)-1].refusal
	if len(failed) == 1 && last.Behind != "" {
		return last // a far gateway's word, passed on as it is
	}
	status, kind := last.Status, last.Type
	reasons := make([]string, len(failed))
	for i, a := range failed {
		if a.refusal.Status != status {
			status, kind = http.StatusServiceUnavailable, connect.DestinationUnavailable
		}
		reasons[i] = fmt.Sprintf("%s: %s", publicName(&a.candidate), a.refusal.Details)
	}
	all := connect.Refuse(status, kind, "nobody serves %s (%s)", req.Destination.Service, strings.Join(reasons, "; "))
	all.Behind = last.Behind
	return all
}

// publicName names a candidate to a client. An instance of a resource file may be
// named after its address, which clients are not told.
func publicName(c *Candidate) string {
	host, _, err := net.SplitHostPort(c.Endpoint.Address)
	if err == nil && strings.Contains(c.Endpoint.Instance, strings.ReplaceAll(host, ":", "-")) {
		return "an instance here"
	}
	return c.String()
}

// clientRefusal says what is wrong with the client; most of the time nobody is
// there to read it.
func clientRefusal(err error) *connect.Refusal {
	switch {
	case errors.Is(err, errNotTLS):
		return connect.Refuse(http.StatusBadRequest, connect.RequestError, "%v", err)
	case errors.Is(err, errStopped):
		return connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable, "%v", err)
	}
	return connect.Refuse(http.StatusBadRequest, connect.ConnectionTerminated, "%s", connect.Public(err))
}
