package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Config is what a [Server] is made of. Listen, Ports and Table are required.
type Config struct {
	// Listen are the addresses that are served over UDP and TCP, usually
	// 127.0.0.1:15053 and [::1]:15053. An answer must come from the address that
	// was asked, so none may be a wildcard.
	Listen []netip.AddrPort
	// Upstreams are the servers that everything else is forwarded to, in order. See
	// [SystemServers]. None: such questions are answered with SERVFAIL.
	Upstreams []netip.AddrPort
	// Ports returns the ports of the service that a destination with Port 0 names.
	// It waits for the control plane, to which it subscribes when it has to, until
	// ctx ends. An error that wraps routes.ErrAbsent makes the name NXDOMAIN, any
	// other one SERVFAIL. It is called concurrently.
	Ports func(ctx context.Context, service mesh.Destination) ([]mesh.RoutePort, error)
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
		if slices.Contains(c.Upstreams, a) {
			faults = append(faults, fmt.Errorf("server %s is where we listen ourselves: questions would go in circles", a))
		}
	}
	for _, a := range c.Upstreams {
		if !a.IsValid() || a.Port() == 0 {
			faults = append(faults, fmt.Errorf("server %s: write address:port", a))
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

// SystemServers returns the servers that the resolv.conf at path names, in order.
// Like the C library it takes the local machine's when the file is missing or
// names none.
func SystemServers(path string) ([]netip.AddrPort, error) {
	conf, err := dns.ClientConfigFromFile(path)
	if errors.Is(err, os.ErrNotExist) {
		conf, err = &dns.ClientConfig{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var servers []netip.AddrPort
	for _, s := range conf.Servers {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("%s: nameserver %q: write an IP address", path, s)
		}
		servers = append(servers, netip.AddrPortFrom(a, 53))
	}
	if len(servers) == 0 {
		servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
	}
	return servers, nil
}
