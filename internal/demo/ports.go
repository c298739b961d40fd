package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The demo's ports come from below the range that Linux gives to outgoing
// connections (32768 and up), so that its own traffic cannot take one between
// the moment it was found free and the moment a process binds it.
const (
	firstPort = 20000
	lastPort  = 32000
)

// freePorts returns n loopback ports that are free for TCP and UDP now.
func freePorts(n int) ([]string, error) {
	var ports []string
	for p := firstPort + rand.IntN((lastPort-firstPort)/2); p < lastPort && len(ports) < n; p++ {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(p))
		if portFree(addr) {
			ports = append(ports, addr)
		}
	}
	if len(ports) < n {
		return nil, fmt.Errorf("no %d free ports on 127.0.0.1 between %d and %d", n, firstPort, lastPort)
	}
	return ports, nil
}

func portFree(addr string) bool {
	var l net.ListenConfig
	t, err := l.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return false
	}
	defer t.Close()
	u, err := l.ListenPacket(context.Background(), "udp", addr)
	if err != nil {
		return false
	}
	_ = u.Close()
	return true
}
