package gateway

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	discoverykubernetes "github.com/isthmus-mesh/isthmus/gateway/discovery/kubernetes"
)

// dial returns how endpoints without a sidecar are called; nil: in the usual way. With an API
// server whoever may write a Service in one namespace says where its endpoints are, and a
// name may lead to this gateway's admin port. So every address is looked at that a name
// leads to, when it is called.
func (g *Gateway) dial() func(ctx context.Context, network, address string) (net.Conn, error) {
	if g.opts.Dial != nil || g.kubernetes == nil {
		return g.opts.Dial
	}
	d := net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		if at, err := netip.ParseAddrPort(address); err != nil || discoverykubernetes.OnGateway(at.Addr()) {
			return fmt.Errorf("%s is the gateway's own host or link: no service of the cluster is there", address)
		}
		return nil
	}}
	return d.DialContext
}
