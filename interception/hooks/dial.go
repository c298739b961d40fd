package hooks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// DialProgram connects the sidecar to the program at address (host:port, of this
// host), past the hook that steers everybody else's connections to the sidecar. A
// valid caller is whom the program sees as its peer, in place of the sidecar, if it
// is of the address family of the program's socket.
//
// The hook knows the connection by its two addresses, of which the source is chosen
// and told to it before the first packet, and is forgotten when the connection stands.
func (h *Handle) DialProgram(ctx context.Context, address string, caller netip.AddrPort) (net.Conn, error) {
	for try := 1; ; try++ {
		c, err := h.dialProgram(ctx, address, caller)
		switch {
		case err == nil:
			return c, nil
		case try < maxSourceTries && errors.Is(err, unix.EADDRNOTAVAIL): // the pair of addresses is still waiting
		default:
			return nil, fmt.Errorf("dial the program: %w", err)
		}
	}
}

func (h *Handle) dialProgram(ctx context.Context, address string, caller netip.AddrPort) (net.Conn, error) {
	var told []bpf.KernelPair // one per address that a name has
	d := net.Dialer{FallbackDelay: -1}
	d.SetMultipathTCP(false)
	d.Control = func(_, to string, raw syscall.RawConn) error {
		program, err := netip.ParseAddrPort(to)
		if err != nil {
			return err
		}
		if program.Addr().IsUnspecified() {
			return fmt.Errorf("%s is no address to dial", program.Addr())
		}
		var inner error
		if err := raw.Control(func(fd uintptr) {
			var source netip.AddrPort
			if source, inner = h.sources.bind(int(fd), program.Addr().Unmap()); inner != nil {
				return
			}
			pair := bpf.KernelPair{Local: bpf.EndpointOf(source), Remote: bpf.EndpointOf(program)}
			told = append(told, pair)
			if inner = h.dials.Put(pair, bpf.DialSidecar); inner != nil {
				return
			}
			if caller.IsValid() {
				inner = h.callers.Put(pair, bpf.EndpointOf(caller))
			} else {
				_ = h.callers.Delete(pair) // that a killed sidecar left
			}
		}); err != nil {
			return err
		}
		return inner
	}
	c, err := d.DialContext(ctx, "tcp", address)
	for n, pair := range told {
		// Its loss would let this pair by once more, from this host.
		_ = h.dials.Delete(pair)
		if err != nil || n < len(told)-1 {
			_ = h.callers.Delete(pair) // otherwise the program takes it, perhaps in a moment
		}
	}
	return c, err
}

// sources are the ports that the sidecar calls the program from. The kernel must be
// told which: what it chooses for bind(2) is none that waits for the end of an
// earlier connection (TIME_WAIT, a minute), and it looks at all of them first. With
// loopback, connect(2) takes such a port again, after a second at most (net.ipv4.tcp_tw_reuse).
type sources struct {
	first, count uint32
	reserved     [][2]uint16 // from, to
	next         atomic.Uint32
}

// outgoingPorts is the range that the network namespace gives to outgoing connections
// (net.ipv4.ip_local_port_range).
func outgoingPorts() (first, count uint32) {
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		var last uint32
		if n, _ := fmt.Sscan(string(b), &first, &last); n == 2 && first > 0 && first <= last && last < 1<<16 {
			return first, last - first + 1
		}
	}
	return 32768, 60999 - 32768 + 1
}

// newSources takes that range without what the host reserves (ip_local_reserved_ports).
func newSources() *sources {
	s := new(sources)
	s.first, s.count = outgoingPorts()
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports"); err == nil {
		s.reserved = portRanges(string(b))
	}
	s.next.Store(rand.Uint32())
	return s
}

// portRanges reads 8080,9148-9150; what is no port is left out.
func portRanges(list string) (ranges [][2]uint16) {
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.ParseUint(from, 10, 16)
		b, errB := strconv.ParseUint(to, 10, 16)
		if errA == nil && errB == nil {
			ranges = append(ranges, [2]uint16{uint16(a), uint16(b)})
		}
	}
	return ranges
}

// bind gives the socket a port of the address that it is about to connect to: between
// two sockets of one host that is always a good source.
func (s *sources) bind(fd int, ip netip.Addr) (netip.AddrPort, error) {
	// Not SO_REUSEADDR, by which any user could take the same port, and with it the
	// pair that the hook lets by: this one shares with our own sockets only.
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	for range maxSourceTries {
		if err != nil && !errors.Is(err, unix.EADDRINUSE) {
			break
		}
		source := netip.AddrPortFrom(ip, s.port())
		if err = unix.Bind(fd, socketAddress(source)); err == nil {
			return source, nil
		}
	}
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return netip.AddrPort{}, fmt.Errorf("%s is no address of this host, where the program must be", ip)
	case errors.Is(err, unix.EADDRINUSE):
		err = fmt.Errorf("%w: the ports of net.ipv4.ip_local_port_range are in use: widen it", err)
	}
	return netip.AddrPort{}, fmt.Errorf("take a source port on %s: %w", ip, err)
}

// port is the next one.
func (s *sources) port() uint16 {
	for range s.count {
		port := uint16(s.first + s.next.Add(1)%s.count)
		if !slices.ContainsFunc(s.reserved, func(r [2]uint16) bool { return r[0] <= port && port <= r[1] }) {
			return port
		}
	}
	return 0 // all are reserved: the kernel chooses
}

func socketAddress(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
