package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/hosts"
	"github.com/isthmus-mesh/isthmus/sidecar/dns"
)

// wire counts the packets to virtual addresses that leave a host, at the switch's
// end of its cable.
type wire struct {
	host   *host
	packet *os.File

	mu     sync.Mutex
	seen   seen
	marker uint16 // the last that has arrived
	sent   uint16 // the last marker sent; not guarded: one test calls count
	err    error
}

// seen is what has left a host so far.
type seen struct {
	packets int // of all kinds
	syns    int // TCP connections, retransmissions included
}

// toVirtual lets the packets to dns.Prefixes pass: 240.66.0.0/16 and fd69:7374:6d75::/48.
var toVirtual = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 12},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.ETH_P_IP, Jf: 2},
	{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 14 + 16}, // destination
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0xf042, Jt: 5, Jf: 6},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.ETH_P_IPV6, Jf: 5},
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 14 + 24}, // destination
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0xfd697374, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 14 + 28},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x6d75, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 256},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// tap begins to count.
func (h *host) tap(t *testing.T) *wire {
	t.Helper()
	w := &wire{host: h}
	err := hosts.Within(hosts.TheSwitch, func() error {
		cable, err := net.InterfaceByName(h.Name)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		w.packet = os.NewFile(uintptr(fd), "packets of "+h.Name)
		program := unix.SockFprog{Len: uint16(len(toVirtual)), Filter: &toVirtual[0]}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: cable.Index})
	})
	if err != nil {
		t.Fatalf("tap %s: %v", h.Name, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.read()
	}()
	t.Cleanup(func() {
		w.packet.Close()
		<-done
	})
	return w
}

func (w *wire) read() {
	b := make([]byte, 256)
	for {
		n, err := w.packet.Read(b)
		w.mu.Lock()
		if err != nil {
			w.err = err
			w.mu.Unlock()
			return
		}
		w.packetLocked(b[:n])
		w.mu.Unlock()
	}
}

// packetLocked counts one frame: Ethernet, and IP without IPv6 extensions.
func (w *wire) packetLocked(frame []byte) {
	network := frame[14:]
	var protocol byte
	var transport []byte
	if binary.BigEndian.Uint16(frame[12:]) == unix.ETH_P_IP {
		protocol, transport = network[9], network[4*int(network[0]&15):]
	} else {
		protocol, transport = network[6], network[40:]
	}
	switch {
	case protocol == unix.IPPROTO_UDP && len(transport) >= 10:
		w.marker = binary.BigEndian.Uint16(transport[8:])
		return
	case protocol == unix.IPPROTO_TCP && len(transport) >= 14 && transport[13]&0x12 == 0x02: // SYN, not ACK
		w.seen.syns++
	}
	w.seen.packets++
}

// count returns what has left the host until now. That it sees what leaves is
// proved each time, by a datagram from outside of every sidecar's cgroup, on each IP.
func (w *wire) count(t *testing.T) seen {
	t.Helper()
	for _, p := range dns.Prefixes() {
		w.sent++
		err := hosts.Within(w.host.Name, func() error {
			c, err := net.Dial("udp", net.JoinHostPort(p.Addr().Next().String(), "9"))
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(binary.BigEndian.AppendUint16(nil, w.sent))
			return err
		})
		if err != nil {
			t.Fatalf("mark the wire of %s: %v", w.host.Name, err)
		}
		err = harness.Eventually(func() error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.marker != w.sent {
				return errors.Join(fmt.Errorf("marker %d has not arrived", w.sent), w.err)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("wire of %s: %v", w.host.Name, err)
		}
	}
	raw, err := w.packet.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		stats, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err != nil || stats.Drops > 0 {
			t.Errorf("wire of %s: %d packets were not counted (%v)", w.host.Name, stats.Drops, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}
