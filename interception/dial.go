package interception

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// DialProgram connects the sidecar to the program at address (host:port, of this
// host), past the hook that steers everybody else's connections to the sidecar. A
// valid caller is whom the program sees as its peer, in place of the sidecar, if it
// is of the address family of the program's socket.
//
// The hook knows the connection by its source address, which is chosen and told
// to it before the first packet, and is forgotten when the connection stands.
func (i *Interception) DialProgram(ctx context.Context, address string, caller netip.AddrPort) (net.Conn, error) {
	var told []bpfEndpoint // one per address that a name has
	d := net.Dialer{FallbackDelay: -1}
	d.SetMultipathTCP(false)
	d.Control = func(_, to string, raw syscall.RawConn) error {
		program, err := netip.ParseAddrPort(to)
		if err != nil {
			return err
		}
		var inner error
		if err := raw.Control(func(fd uintptr) {
			var source bpfEndpoint
			if source, inner = bindBeside(int(fd), program.Addr().Unmap()); inner != nil {
				return
			}
			told = append(told, source)
			if inner = i.dials.Put(source, uint8(1)); inner == nil && caller.IsValid() {
				inner = i.callers.Put(source, endpointOf(caller))
			}
		}); err != nil {
			return err
		}
		return inner
	}
	c, err := d.DialContext(ctx, "tcp", address)
	for n, source := range told {
		// Its loss would let this port by once more, from this host.
		_ = i.dials.Delete(source)
		if err != nil || n < len(told)-1 {
			_ = i.callers.Delete(source) // otherwise the program takes it, perhaps in a moment
		}
	}
	if err != nil {
		return nil, fmt.Errorf("dial the program: %w", err)
	}
	return c, nil
}

// bindBeside gives the socket a free port of the address that it is about to
// connect to: between two sockets of one host that is always a good source.
func bindBeside(fd int, ip netip.Addr) (bpfEndpoint, error) {
	var to unix.Sockaddr
	if ip.Is4() {
		to = &unix.SockaddrInet4{Addr: ip.As4()}
	} else {
		to = &unix.SockaddrInet6{Addr: ip.As16()}
	}
	if err := unix.Bind(fd, to); err != nil {
		return bpfEndpoint{}, fmt.Errorf("take a source port on %s: %w: the program's address must be one of this host", ip, err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return bpfEndpoint{}, fmt.Errorf("take a source port on %s: %w", ip, err)
	}
	var port int
	switch sa := name.(type) {
	case *unix.SockaddrInet4:
		port = sa.Port
	case *unix.SockaddrInet6:
		port = sa.Port
	}
	return endpointOf(netip.AddrPortFrom(ip, uint16(port))), nil
}
