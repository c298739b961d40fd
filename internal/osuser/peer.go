package osuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// peerTimeout bounds the question to the kernel, which takes microseconds.
const peerTimeout = time.Second

// Of a request and an answer of sock_diag(7), struct inet_diag_req_v2 and inet_diag_msg.
const (
	requestSize  = 56
	answerUID    = 64 // offset of idiag_uid
	answerSize   = 72
	anyCookie    = 0xffffffff // INET_DIAG_NOCOOKIE
	sockDiagType = 20         // SOCK_DIAG_BY_FAMILY
)

// Peer returns the user whose process opened the other end of c, an accepted TCP
// connection from this host. It needs no privilege. In a user namespace, users that
// are not mapped there are all nobody (65534).
func Peer(c net.Conn) (uid uint32, err error) {
	from, to := addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
	if !from.IsValid() || !to.IsValid() {
		return 0, fmt.Errorf("connection from %s: no TCP", c.RemoteAddr())
	}
	// The caller's socket is the one whose own address is our peer's.
	uid, err = owner(from, to)
	if err != nil {
		return 0, fmt.Errorf("whose process the connection from %s is: %w", from, err)
	}
	return uid, nil
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

// owner asks the kernel for the socket at local, connected to remote.
func owner(local, remote netip.AddrPort) (uint32, error) {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(peerTimeout)); err != nil {
		return 0, err
	}
	// One that dialled an IPv4 address by an IPv6 socket is of the other family.
	families := []byte{unix.AF_INET, unix.AF_INET6}
	if local.Addr().Is6() {
		families = families[1:]
	}
	for _, family := range families {
		var answers []netlink.Message
		answers, err = c.Execute(netlink.Message{
			Header: netlink.Header{Type: sockDiagType, Flags: netlink.Request},
			Data:   request(family, local, remote),
		})
		if errors.Is(err, unix.ENOENT) {
			err = errors.New("it is no process of this host")
			continue
		}
		if err != nil {
			return 0, err
		}
		if len(answers) == 0 || len(answers[0].Data) < answerSize {
			return 0, errors.New("the kernel's answer is too short")
		}
		return binary.NativeEndian.Uint32(answers[0].Data[answerUID:]), nil
	}
	return 0, err
}

// request is a struct inet_diag_req_v2 for one established connection.
func request(family byte, local, remote netip.AddrPort) []byte {
	b := make([]byte, requestSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], ^uint32(0)) // in every state
	binary.BigEndian.PutUint16(b[8:], local.Port())
	binary.BigEndian.PutUint16(b[10:], remote.Port())
	put(b[12:28], family, local.Addr())
	put(b[28:44], family, remote.Addr())
	binary.NativeEndian.PutUint32(b[48:], anyCookie)
	binary.NativeEndian.PutUint32(b[52:], anyCookie)
	return b
}

// put writes an address as a socket of the family has it.
func put(b []byte, family byte, a netip.Addr) {
	if family == unix.AF_INET6 {
		as16 := a.As16()
		copy(b, as16[:])
		return
	}
	copy(b, a.AsSlice())
}
