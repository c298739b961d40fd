package exchange

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// orphaned reports whether the socket at the other end of conn is closed: no process
// has it any more. A socket that is half-closed sends the same FIN; the kernel knows
// which, as long as both ends are in its network namespace. False also when it does
// not know: another machine, addresses that are translated on the way, no
// NETLINK_SOCK_DIAG. It does not wait.
func orphaned(conn *net.TCPConn) bool {
	from, ok1 := addrPort(conn.RemoteAddr())
	to, ok2 := addrPort(conn.LocalAddr())
	if !ok1 || !ok2 {
		return false
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Sendto(fd, diagRequest(from, to), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false
	}
	var reply [512]byte
	n, _, err := unix.Recvfrom(fd, reply[:], 0) // it was written before Sendto returned
	const inode = unix.SizeofNlMsghdr + 68      // struct inet_diag_msg
	if err != nil || n < inode+4 || binary.NativeEndian.Uint16(reply[4:]) != sockDiagByFamily {
		return false
	}
	return binary.NativeEndian.Uint32(reply[inode:]) == 0
}

const sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY, linux/sock_diag.h

// diagRequest asks for the TCP socket that is bound to from and connected to to:
// struct nlmsghdr, then struct inet_diag_req_v2 of linux/inet_diag.h.
func diagRequest(from, to netip.AddrPort) []byte {
	const size = unix.SizeofNlMsghdr + 56
	b := make([]byte, size)
	binary.NativeEndian.PutUint32(b, size)
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	r := b[unix.SizeofNlMsghdr:]
	r[0], r[1] = unix.AF_INET, unix.IPPROTO_TCP
	if from.Addr().Is6() {
		r[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(r[4:], ^uint32(0)) // in any state
	binary.BigEndian.PutUint16(r[8:], from.Port())
	binary.BigEndian.PutUint16(r[10:], to.Port())
	copy(r[12:28], from.Addr().AsSlice())
	copy(r[28:44], to.Addr().AsSlice())
	binary.NativeEndian.PutUint64(r[48:], ^uint64(0)) // no cookie
	return b
}

func addrPort(a net.Addr) (netip.AddrPort, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()), true
}
