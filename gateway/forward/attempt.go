package forward

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
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
	cluster  mesh.ClusterName // who answered
	instance string
	rest     []byte        // read from conn behind the reply
	written  chan struct{} // remote: closed when the early payload is written or writing failed
	writeErr error         // of that; valid after written

	refusal *Refusal // why it failed; nil: it won
}

// remote asks a far gateway. On success the early payload goes on being written
// until it is sealed.
func (r *race) remote(ctx context.Context, a *attempt) *Refusal {
	conn, err := r.f.cfg.Open(ctx, a.candidate.Gateway)
	if err != nil {
		return Refuse(http.StatusServiceUnavailable, ErrDestinationUnavailable, "open a stream: %v", err)
	}
	a.conn = conn
	stop := context.AfterFunc(ctx, func() { relay.Abort(conn) })

	dest := r.req.Destination
	dest.Port = a.candidate.Port
	request := formatConnect(dest, r.req.Exclude, r.via)
	a.written = make(chan struct{})
	go func() {
		defer close(a.written)
		a.writeErr = r.early.writeTo(ctx, conn, request)
	}()

	head, rest, err := readHead(conn, nil)
	if err != nil {
		stop()
		relay.Abort(conn)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Refuse(http.StatusServiceUnavailable, ErrConnectionTerminated, "read the reply: %v", err)
	}
	cluster, instance, refusal := parseReply(head, a.candidate.Gateway)
	if refusal != nil {
		stop()
		relay.Abort(conn)
		return refusal
	}
	a.cluster, a.instance, a.rest = cluster, instance, rest
	if !stop() {
		return Refuse(http.StatusServiceUnavailable, ErrDestinationUnavailable, "%v", context.Cause(ctx))
	}
	return nil
}

// local dials an endpoint of this cluster.
func (r *race) local(ctx context.Context, a *attempt) *Refusal {
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	ep := &a.candidate.Endpoint
	c, err := r.f.cfg.Dial(dial, "tcp", ep.Address)
	if err != nil {
		var timeout interface{ Timeout() bool }
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return Refuse(http.StatusBadGateway, ErrConnectionRefused, "%v", err)
		case errors.As(err, &timeout) && timeout.Timeout():
			return Refuse(http.StatusGatewayTimeout, ErrConnectionTimeout, "%s does not accept within %s", ep.Address, dialTimeout)
		}
		return Refuse(http.StatusBadGateway, ErrDestinationUnavailable, "%v", err)
	}
	conn, ok := c.(relay.Conn)
	if !ok {
		_ = c.Close()
		return Refuse(http.StatusInternalServerError, ErrProxyInternal, "connection to %s has no half-close", ep.Address)
	}
	r.f.dials.add(conn)
	a.conn, a.cluster, a.instance = conn, r.f.cfg.Self.Cluster, ep.Instance
	return nil
}

// combine says why none of the attempts succeeded.
func combine(req *Request, failed []*attempt) *Refusal {
	last := failed[len(failed)-1].refusal
	if len(failed) == 1 && last.next != "" {
		return last // a far gateway's word, passed on as it is
	}
	all := &Refusal{Status: last.Status, Type: last.Type, next: last.next}
	reasons := make([]string, len(failed))
	for i, a := range failed {
		if a.refusal.Status != all.Status {
			all.Status, all.Type = http.StatusServiceUnavailable, ErrDestinationUnavailable
		}
		reasons[i] = fmt.Sprintf("%s: %s", a.candidate.String(), a.refusal.Details)
	}
	all.Details = clip(fmt.Sprintf("nobody serves %s (%s)", req.Destination.Service, strings.Join(reasons, "; ")))
	return all
}

// clientRefusal says what is wrong with the client; most of the time nobody is
// there to read it.
func clientRefusal(err error) *Refusal {
	switch {
	case errors.Is(err, errNotTLS):
		return Refuse(http.StatusBadRequest, ErrRequestError, "%v", err)
	case errors.Is(err, errStopped):
		return Refuse(http.StatusServiceUnavailable, ErrDestinationUnavailable, "%v", err)
	}
	return Refuse(http.StatusBadRequest, ErrConnectionTerminated, "%v", err)
}
