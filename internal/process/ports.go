package process

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The ports are below the range that Linux gives to outgoing connections (32768
// and up), so that no traffic can take one between the moment it was found free
// and the moment a process binds it.
const (
	firstPort = 12000
	lastPort  = 32000
)

// Ports gives out loopback addresses, each once. Safe for concurrent use.
type Ports struct {
	mu    sync.Mutex
	next  int
	tried int
}

// NewPorts returns a source that begins somewhere, so that two of them seldom meet.
func NewPorts() *Ports { return &Ports{next: firstPort + rand.IntN(lastPort-firstPort)} }

// Take returns n addresses, host:port, that are free for TCP and UDP now.
func (p *Ports) Take(n int) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var addrs []string
	for len(addrs) < n {
		if p.tried++; p.tried > lastPort-firstPort {
			return nil, fmt.Errorf("no %d more free ports on 127.0.0.1 between %d and %d", n, firstPort, lastPort)
		}
		if p.next++; p.next >= lastPort {
			p.next = firstPort
		}
		if addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(p.next)); free(addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

func free(addr string) bool {
	var l net.ListenConfig
	ctx := context.Background() // binding an IP address waits for nothing
	t, err := l.Listen(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer t.Close()
	u, err := l.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return false
	}
	_ = u.Close()
	return true
}
