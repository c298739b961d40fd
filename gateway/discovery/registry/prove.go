package registry

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/dialerr"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// prove returns the address to dial for what id registers from the address
// caller. One on the host that the call comes from is taken as it is. Any other
// that is within the cluster's ranges is dialled once, a few at a time: whoever answers there must be id, or a workload could have
// the gateways of every cluster open connections to hosts that are not its own.
// A host name becomes the IP address that answered, so that it cannot lead
// elsewhere later. own says that it is on the host of the caller. Its errors are gRPC statuses that say the same of an address
// where nobody is and of one where somebody else is.
func (s *Server) prove(ctx context.Context, address string, id identity.ID, caller net.Addr) (proved string, own bool, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", false, errorf("address %q: write host:port", address)
	}
	var from netip.Addr
	if at, ok := caller.(*net.TCPAddr); ok {
		from = at.AddrPort().Addr().Unmap()
	}
	ip, err := netip.ParseAddr(host)
	if err == nil && ip.Unmap() == from {
		return address, true, nil
	}
	refused := status.Errorf(codes.FailedPrecondition,
		"address %q is not where the registration comes from (%s), and nobody there proves to be %s: write the address of this sidecar's inbound listener, which must be among the gateway's endpointRanges, or :%s for the one that the gateway sees",
		address, caller, id, port)
	if s.identity == nil {
		return "", false, refused
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	giveBack, ok := s.proofs.Take(ctx, id)
	if !ok {
		return "", false, status.Errorf(codes.Unavailable, "this gateway asks who answers at too many other addresses now: try again, or another one")
	}
	defer giveBack()
	d := tls.Dialer{NetDialer: &net.Dialer{ControlContext: control(from, s.ranges)}, Config: s.identity.ClientTLS("", identity.OneOf([]string{id.String()}))}
	conn, err := d.DialContext(ctx, "tcp", address)
	if dialerr.Own(err) {
		return "", false, status.Errorf(codes.Unavailable, "this gateway cannot look who answers at %q now: try again, or another one", address)
	}
	if err != nil {
		s.log.Warn("a registered address is not proved", "peer_id", id.String(), "addr", address, "err", err)
		return "", false, refused
	}
	defer func() { _ = conn.Close() }() // it has served
	return conn.RemoteAddr().String(), false, nil
}
