package registry

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/register"
	"github.com/isthmus-mesh/isthmus/internal/tlsport"
)

// stream is one call of Register; its address tells it from others.
type stream struct {
	id    identity.ID
	from  string // the host that calls
	log   *slog.Logger
	ended chan error // has room for one: why the gateway ends it
}

func newStream(id identity.ID, addr net.Addr, log *slog.Logger) *stream {
	host, _, _ := net.SplitHostPort(addr.String()) // without a port there is no host
	return &stream{
		id: id, from: host, ended: make(chan error, 1),
		log: log.With("peer_id", id.String(), "peer_addr", addr.String()),
	}
}

// event is a decision about the stream, for the audit.
func (st *stream) event(d audit.Decision, what, why string) audit.Event {
	return audit.Event{Kind: audit.Registration, Decision: d, Who: st.id.String(), From: st.from, What: what, Why: why}
}

// end has the stream end with err, a gRPC status. It does not block, and only the
// first one counts.
func (st *stream) end(err error) {
	select {
	case st.ended <- err:
	default:
	}
}

// Register serves one registration stream. Called by gRPC.
func (s *Server) Register(calls register.Registry_RegisterServer) error {
	who, err := tlsport.CallerOf(calls.Context())
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	id := who.ID
	if !id.IsWorkload() {
		return status.Error(codes.PermissionDenied, id.String()+" is no workload, and serves nothing")
	}
	st := newStream(id, who.Addr, s.log)
	said, failed := tlsport.Receive(calls.Context(), calls.Recv)
	c := conversation{server: s, calls: calls, stream: st, caller: who.Addr}
	for {
		select {
		case err := <-st.ended:
			return c.refuse(err)
		case <-calls.Context().Done(): // it broke
			s.ended(c.held, st, calls.Context().Err(), who.TLS)
			return calls.Context().Err()
		case err := <-failed:
			s.ended(c.held, st, err, who.TLS)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case m := <-said:
			if !s.rates.Allow(id, time.Now()) { // not a line: that is what it is about
				s.metrics.refused.WithLabelValues(reasonOf(codes.ResourceExhausted)).Inc()
				s.remove(c.held, st, true)
				return status.Errorf(codes.ResourceExhausted, "%s says something new too often: wait some seconds", id)
			}
			c.last = m
			if err := c.take(); err != nil {
				return err
			}
		}
	}
}

// ended takes away what st registered under k, because reading from st gave err.
// When it was ended because its certificate has expired (gateway/xds does that),
// a sidecar with a new one is back in a moment: it gets that moment, so that a
// renewal is no outage.
func (s *Server) ended(k key, st *stream, err error, state tls.ConnectionState) {
	withdrawn := errors.Is(err, io.EOF)
	if withdrawn || !time.Now().After(state.PeerCertificates[0].NotAfter) {
		s.remove(k, st, withdrawn)
		return
	}
	time.AfterFunc(renewalTime, func() { s.remove(k, st, false) })
}
