package interception

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// tellLimit bounds what is said at a time. Nothing of it waits for anybody.
const tellLimit = 5 * time.Second

// ErrNotTold means that what brings the pod's traffic knows nothing of further addresses.
var ErrNotTold = errors.New("what captures this pod is of an earlier version: it takes no further addresses until the pod is restarted")

// CaptureAlso has TCP connections of the pod's programs to further addresses come to the sidecar,
// which this process is, and ReleaseAlso takes that back. Without privilege, it says so
// by a datagram to each, which nobody lets go anywhere: see bpf/capture.h and nft/pod.go. Where
// nothing can be reached of a family, its addresses are left out.
func CaptureAlso(cfg PodTable, to []netip.AddrPort) error { return tell(cfg.OutboundPort, to) }

// ReleaseAlso is described at CaptureAlso.
func ReleaseAlso(cfg PodTable, to []netip.AddrPort) error { return tell(cfg.InboundPort, to) }

func tell(from uint16, to []netip.AddrPort) error {
	var of [2][]netip.AddrPort
	for _, a := range to {
		if a.Addr().Unmap().Is4() {
			of[0] = append(of[0], a)
		} else {
			of[1] = append(of[1], a)
		}
	}
	// The first is nobody's (RFC 5737, RFC 3849): no program gets a datagram from us.
	return errors.Join(
		tellFamily("udp4", from, netip.AddrFrom4([4]byte{192, 0, 2, 1}), of[0]),
		tellFamily("udp6", from, netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}), of[1]))
}

func tellFamily(network string, from uint16, nobody netip.Addr, to []netip.AddrPort) error {
	if len(to) == 0 {
		return nil
	}
	s, err := (&net.ListenConfig{}).ListenPacket(context.Background(), network, fmt.Sprintf(":%d", from))
	if err != nil {
		return fmt.Errorf("say which addresses are captured, too: %w", err)
	}
	defer func() { _ = s.Close() }()
	conn := s.(*net.UDPConn)
	_ = conn.SetDeadline(time.Now().Add(tellLimit))
	if taken, err := say(conn, netip.AddrPortFrom(nobody, from)); !taken {
		return err
	}
	for _, a := range to {
		if _, err := say(conn, netip.AddrPortFrom(a.Addr().Unmap(), a.Port())); err != nil {
			return err
		}
	}
	return nil
}

// say says one address. It reports false when it cannot be said, for whatever reason, which is no
// error where there is no route.
func say(conn *net.UDPConn, to netip.AddrPort) (taken bool, err error) {
	_, err = conn.WriteToUDPAddrPort(nil, to)
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EPERM):
		return true, nil
	case err == nil:
		return false, ErrNotTold
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EADDRNOTAVAIL):
		return false, nil
	}
	return false, fmt.Errorf("say that %s is captured, too: %w", to, err)
}
