package hooks

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// Sockets are the listening TCP sockets of a sidecar.
//
// None may be of multipath TCP, which is what Go's own net.Listen makes.
type Sockets struct {
	// Outbound accepts captured connections, on the outbound port.
	Outbound []net.Listener
	// DNS answers on the DNS port; it stands for the UDP socket beside it too.
	DNS []net.Listener
	// Inbound accepts connections to the program's ports. The local address of
	// an accepted connection is the one that the caller connected to.
	Inbound []net.Listener
}

// Serve begins: from now on traffic comes to these sockets, in place of those of
// an earlier call or process. It ends for a socket when that is closed, and for
// all when the process ends, however it does. A family without a socket counts
// as a sidecar that is not there. The caller must not be in the captured cgroup.
func (h *Handle) Serve(s Sockets) error {
	inside, err := withinCgroup(h.settings.Cgroup)
	if err != nil {
		return fmt.Errorf("serve interception %s: %w", h.name, err)
	}
	if inside {
		return fmt.Errorf("serve interception %s: the sidecar runs in the cgroup that it captures, so that its own connections would come back to it: run it in another", h.name)
	}
	type group struct {
		kind      string
		listeners []net.Listener
		port      uint16 // 0: any
		loopback  bool
		v4, v6    bpf.KernelSlot
	}
	for _, g := range []group{
		{"outbound", s.Outbound, h.settings.OutboundPort, true, bpf.KernelSlotSLOT_OUTBOUND4, bpf.KernelSlotSLOT_OUTBOUND6},
		{"DNS", s.DNS, h.settings.DnsPort, true, bpf.KernelSlotSLOT_DNS4, bpf.KernelSlotSLOT_DNS6},
		{"inbound", s.Inbound, 0, false, bpf.KernelSlotSLOT_INBOUND4, bpf.KernelSlotSLOT_INBOUND6},
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
			var slots []bpf.KernelSlot
			if addr.Addr().Is4() {
				slots = append(slots, g.v4)
			} else {
				slots = append(slots, g.v6)
				if addr.Addr().IsUnspecified() && !v6only {
					slots = append(slots, g.v4)
				}
			}
			for _, slot := range slots {
				if err := h.put(l, slot); err != nil {
					return fmt.Errorf("serve %s on %s: %w", g.kind, addr, err)
				}
			}
		}
	}
	return nil
}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// inspect returns where l listens and whether, being of IPv6, it takes only that.
func inspect(l net.Listener) (addr netip.AddrPort, v6only bool, err error) {
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return addr, false, fmt.Errorf("not a TCP listener but one of %T", l.Addr())
	}
	addr = tcp.AddrPort()
	err = bpf.Control(l, func(fd int) error {
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err != nil {
			return err
		}
		if n == unix.IPPROTO_MPTCP {
			return errors.New("it is a multipath TCP listener, which no socket map takes: switch that off in its net.ListenConfig")
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
func (h *Handle) put(l net.Listener, slot bpf.KernelSlot) error {
	return bpf.Control(l, func(fd int) error {
		if err := h.sockets.Put(uint32(slot), uint64(fd)); err != nil {
			return fmt.Errorf("hand the socket to the hooks: %w", err)
		}
		return nil
	})
}
