package interception

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/interception/hooks"
	"github.com/isthmus-mesh/isthmus/interception/nft"
	"github.com/isthmus-mesh/isthmus/interception/sockmap"
)

// Handle is the sidecar's side of interception, whichever way it is done. It is safe
// for concurrent use. What nftables cannot do has no effect with it.
type Handle struct {
	hooks   *hooks.Handle   // nil with nftables
	sockmap *sockmap.Handle // nil with nftables
	table   string          // name of our nftables table; empty with eBPF and in a pod
}

// claim says that this process is the sidecar of what is attached, if that is cfg.
func (h *Handle) claim(cfg Config) error {
	if err := h.hooks.Claim(); err != nil {
		return err
	}
	return h.hooks.Differs(cfg)
}

// Serve begins: from now on the program's traffic comes to these sockets.
func (h *Handle) Serve(s Sockets) error {
	if h.hooks == nil {
		return nil // a table redirects from the start; a pod's hooks find the sockets
	}
	return h.hooks.Serve(s)
}

// OriginalDestination returns what the program asked for when it made the connection
// that the sidecar accepted as c; false if c was not captured but made to the sidecar
// itself. Ask once per connection.
func (h *Handle) OriginalDestination(c net.Conn) (netip.AddrPort, bool) {
	if h.hooks == nil {
		return nft.OriginalDestination(c)
	}
	return h.hooks.OriginalDestination(c)
}

// OriginalServer returns the DNS server that the program asked with a datagram which the
// sidecar received at its address at, from the address from; false if that is not known
// or the datagram was sent to the sidecar itself. Of a question by TCP,
// OriginalDestination says it. It asks the kernel each time, some microseconds.
func (h *Handle) OriginalServer(at, from netip.AddrPort) (netip.AddrPort, bool) {
	switch {
	case h.hooks != nil:
		return h.hooks.OriginalServer(from)
	case h.table != "":
		return nft.OriginalServer(at, from)
	}
	return netip.AddrPort{}, false // in a pod nobody without privilege can tell
}

// DialProgram connects to the program at a steered port of this host, past the hook
// that sends everybody else to the sidecar. A valid caller is whom the program sees.
func (h *Handle) DialProgram(ctx context.Context, address string, caller netip.AddrPort) (net.Conn, error) {
	return h.hooks.DialProgram(ctx, address, caller)
}

// TryAcceleration switches acceleration on if this kernel passes its self-test. The
// caller vouches for the program, see [sockmap.Handle.Try].
func (h *Handle) TryAcceleration() error { return h.sockmap.Try() }

// StopAcceleration switches it off, for connections that are made from now on.
func (h *Handle) StopAcceleration() error {
	if h.sockmap == nil {
		return nil
	}
	return h.sockmap.Stop()
}

// Accelerating reports whether connections that are made now are accelerated.
func (h *Handle) Accelerating() bool { return h.sockmap != nil && h.sockmap.On() }

// Accelerate returns the connection to use in place of c, which nothing has been read
// from or written to; false means that c stays as it is.
func (h *Handle) Accelerate(c *net.TCPConn) (*sockmap.Conn, bool) { return h.sockmap.Accelerate(c) }

// Describe implements [prometheus.Collector]. Unregister before Close.
func (h *Handle) Describe(ch chan<- *prometheus.Desc) {
	if h.hooks != nil {
		h.hooks.Describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (h *Handle) Collect(ch chan<- prometheus.Metric) {
	if h.hooks != nil {
		h.hooks.Collect(ch)
	}
}

// Close lets go of everything. Hooks stay attached, a table is removed.
func (h *Handle) Close() error {
	switch {
	case h == nil, h.hooks == nil && h.table == "":
		return nil
	case h.hooks == nil:
		_, err := nft.Remove(h.table)
		return err
	}
	return errors.Join(h.sockmap.Close(), h.hooks.Close())
}
