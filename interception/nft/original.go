package nft

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// OriginalDestination returns what the program asked for when it made the connection
// that the sidecar accepted as c; false if c was not redirected but made to the sidecar
// itself. It needs no privilege.
func OriginalDestination(c net.Conn) (netip.AddrPort, bool) {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	here := netip.AddrPortFrom(local.AddrPort().Addr().Unmap(), uint16(local.Port))
	s, ok := c.(syscall.Conn)
	if !ok {
		return netip.AddrPort{}, false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, false
	}
	var asked netip.AddrPort
	if err := raw.Control(func(fd uintptr) { asked, err = originalDestination(int(fd), here.Addr().Is4()) }); err != nil {
		return netip.AddrPort{}, false
	}
	return asked, err == nil && asked != here
}

// originalDestination asks conntrack. The two socket options have the number and
// shape of others that package unix can read.
func originalDestination(fd int, v4 bool) (netip.AddrPort, error) {
	const soOriginalDst = 80 // of SOL_IP and of SOL_IPV6
	if v4 {
		sa, err := unix.GetsockoptIPv6Mreq(fd, unix.IPPROTO_IP, soOriginalDst)
		if err != nil {
			return netip.AddrPort{}, err
		}
		b := sa.Multiaddr // struct sockaddr_in: family, port, address
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
	}
	sa, err := unix.GetsockoptIPv6MTUInfo(fd, unix.IPPROTO_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, sa.Addr.Port))
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr.Addr), port), nil
}
