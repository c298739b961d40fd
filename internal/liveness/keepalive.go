package liveness

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// keepAliveIdle, keepAliveInterval and keepAliveCount find a peer whose machine is
	// gone 8 s after its last sign of life. Of five probes all are lost once in 400
	// times where a third of the packets is.
	keepAliveIdle     = 3 * time.Second
	keepAliveInterval = time.Second
	keepAliveCount    = 5

	// ackLimit is how long a machine may leave data without a sign of life.
	ackLimit = 8 * time.Second
)

// KeepAlive makes the kernel ask the machine at the other end of c for signs of life
// while c is idle, and break c when there are none. Another than a TCP connection is
// left as it is. What the kernel has sent and nobody acknowledges it does not ask about:
// see [MachineGone].
func KeepAlive(c net.Conn) {
	if tcp, ok := c.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount}) // fails on a closed connection only
	}
}

// MachineGone reports whether the machine at the other end of the TCP connection c
// leaves data unacknowledged for 8 s. It is what TCP_USER_TIMEOUT would find, which also
// ends connections whose reader takes its time: a closed window is acknowledged, and is
// no sign of death. It costs a system call, unless it is this machine.
func MachineGone(c net.Conn) bool {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return false
	}
	if at, ok := tcp.RemoteAddr().(*net.TCPAddr); ok && at.IP.IsLoopback() {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil || info.Unacked == 0 && info.Probes == 0 && info.Backoff == 0 {
			return
		}
		silence := time.Duration(min(info.Last_ack_recv, info.Last_data_recv)) * time.Millisecond
		gone = silence > ackLimit
	})
	return gone
}
