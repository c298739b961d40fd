package interception

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sockets are the listening TCP sockets of a sidecar.
type Sockets struct {
	// Outbound accepts captured connections, on the outbound port.
	Outbound []net.Listener
	// DNS answers on the DNS port; it stands for the UDP socket beside it too.
	DNS []net.Listener
	// Inbound accepts connections to the program's ports. The local address of
	// an accepted connection is the one that the caller connected to.
	Inbound []net.Listener
}

// Listen listens on a TCP address for Serve. Go's own net.Listen makes multipath
// TCP sockets, which cannot be handed to the hooks.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	return plain.Listen(ctx, "tcp", address)
}

// Serve begins: from now on traffic comes to these sockets, in place of those of
// an earlier call or process. It ends for a socket when that is closed, and for
// all when the process ends, however it does. A family without a socket counts
// as a sidecar that is not there. The caller must not be in the captured cgroup.
func (i *Interception) Serve(s Sockets) error {
	inside, err := withinCgroup(i.settings.Cgroup)
	if err != nil {
		return fmt.Errorf("serve interception %s: %w", i.name, err)
	}
	if inside {
		return fmt.Errorf("serve interception %s: the sidecar runs in the cgroup that it captures, so that its own connections would come back to it: run it in another", i.name)
	}
	type group struct {
		kind      string
		listeners []net.Listener
		port      uint16 // 0: any
		loopback  bool
		v4, v6    bpfSlot
	}
	for _, g := range []group{
		{"outbound", s.Outbound, i.settings.OutboundPort, true, bpfSlotSLOT_OUTBOUND4, bpfSlotSLOT_OUTBOUND6},
		{"DNS", s.DNS, i.settings.DnsPort, true, bpfSlotSLOT_DNS4, bpfSlotSLOT_DNS6},
		{"inbound", s.Inbound, 0, false, bpfSlotSLOT_INBOUND4, bpfSlotSLOT_INBOUND6},
	} {
		for _, l := range g.listeners {
			addr, v6only, err := inspect(l)
			if err != nil {
				return fmt.Errorf("serve %s on %s: %w", g.kind, l.Addr(), err)
			}
			if g.port != 0 && addr.Port() != g.port {
				return fmt.Errorf("serve %s on %s: the hooks send to port %d: listen there, or attach with this port", g.kind, addr, g.port)
			}
			if ip := addr.Addr(); g.loopback && !ip.IsUnspecified() && ip != loopback4 && ip != netip.IPv6Loopback() {
				return fmt.Errorf("serve %s on %s: the hooks send to 127.0.0.1 and ::1: listen there", g.kind, addr)
			}
			var slots []bpfSlot
			if addr.Addr().Is4() {
				slots = append(slots, g.v4)
			} else {
				slots = append(slots, g.v6)
				if addr.Addr().IsUnspecified() && !v6only {
					slots = append(slots, g.v4)
				}
			}
			for _, slot := range slots {
				if err := i.put(l, slot); err != nil {
					return fmt.Errorf("serve %s on %s: %w", g.kind, addr, err)
				}
			}
		}
	}
	return nil
}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// control runs f with the descriptor of a listener or connection, which stays its.
func control(l any, f func(fd int) error) error {
	c, ok := l.(syscall.Conn)
	if !ok {
		return fmt.Errorf("a %T has no socket: hand in the TCP listener itself", l)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// inspect returns where l listens and whether, being of IPv6, it takes only that.
func inspect(l net.Listener) (addr netip.AddrPort, v6only bool, err error) {
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return addr, false, fmt.Errorf("not a TCP listener but one of %T", l.Addr())
	}
	addr = tcp.AddrPort()
	err = control(l, func(fd int) error {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err != nil {
			return err
		}
		if n == unix.IPPROTO_MPTCP {
			return errors.New("it is a multipath TCP listener, which no socket map takes: make it with interception.Listen")
		}
		n, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil || n == unix.AF_INET {
			return err
		}
		n, err = unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		v6only = n == 1
		return err
	})
	return addr, v6only, err
}

// put makes l the sidecar's socket in the slot.
func (i *Interception) put(l net.Listener, slot bpfSlot) error {
	return control(l, func(fd int) error {
		if err := i.sockets.Put(uint32(slot), uint64(fd)); err != nil {
			return fmt.Errorf("hand the socket to the hooks: %w", err)
		}
		return nil
	})
}
