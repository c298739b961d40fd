package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Config is what a [Server] is made of. Listen, Ports and Table are required.
type Config struct {
	// Listen are the addresses that are served over UDP and TCP, usually
	// 127.0.0.1:15053 and [::1]:15053. An answer must come from the address that
	// was asked, so none may be a wildcard.
	Listen []netip.AddrPort
	// ResolvConf names the servers that everything else is forwarded to, when the
	// program has not asked another one, and the search list of the program. Where we
	// listen ourselves is left out: questions would go in circles. Nil: there are none.
	ResolvConf *ResolvConf
	// OriginalServer returns the server that the program asked with a datagram that we
	// received at our address at, from the address from, and OriginalDestination the same
	// for a connection, of which it is called once. False: that is not known, or we
	// were asked. They are called concurrently. Nil: never known.
	OriginalServer      func(at, from netip.AddrPort) (netip.AddrPort, bool)
	OriginalDestination func(net.Conn) (netip.AddrPort, bool)
	// Ports returns the ports of the service that a destination with Port 0 names.
	// It waits for the control plane, to which it subscribes when it has to, until
	// ctx ends. An error that wraps routes.ErrAbsent makes the name NXDOMAIN, any
	// other one SERVFAIL. It is called concurrently.
	Ports func(ctx context.Context, service mesh.Destination) ([]mesh.RoutePort, error)
	// InMesh says of a service of the own cluster, Cluster, whether programs that ask for it by
	// its name in Kubernetes are led into the mesh by that name, and else has the addresses captured
	// that Kubernetes has for it. It waits as Ports does. Nil: such names are
	// forwarded. Where Kubernetes has its names the search list says, which has svc.DOMAIN.
	InMesh  func(ctx context.Context, service mesh.Destination) (bool, error)
	Cluster mesh.ClusterName
	// Release says that nobody has asked for a service for so long that Ports need
	// not stay subscribed to it. It must not block. May be nil.
	Release func(service mesh.Destination)
	// Table has the virtual addresses. It stays its owner's to close.
	Table *Table
	// WithoutIPv6 makes every AAAA answer empty, where IPv6 is not captured.
	WithoutIPv6 bool
	// Log receives one line per change of state and per question that had no good
	// answer. Nil discards.
	Log *slog.Logger
	// Metrics may be nil: not registered.
	Metrics prometheus.Registerer
}

func (c *Config) validate() error {
	var faults []error
	if len(c.Listen) == 0 {
		faults = append(faults, errors.New("no address to listen on"))
	}
	for _, a := range c.Listen {
		if !a.IsValid() || a.Addr().IsUnspecified() {
			faults = append(faults, fmt.Errorf("listen on %s: write one address of this machine, such as 127.0.0.1:15053", a))
		}
	}
	if c.Ports == nil {
		faults = append(faults, errors.New("no Ports"))
	}
	if c.Table == nil {
		faults = append(faults, errors.New("no Table"))
	}
	return errors.Join(faults...)
}
