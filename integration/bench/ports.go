package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// ports gives out loopback addresses, each once.
type ports struct{ next int }

func newPorts() *ports { return &ports{next: firstPort + rand.IntN((lastPort-firstPort)/2)} }

// take returns n addresses that are free for TCP and UDP now.
func (p *ports) take(n int) ([]string, error) {
	var addrs []string
	for ; len(addrs) < n; p.next++ {
		if p.next >= lastPort {
			return nil, fmt.Errorf("no free port on 127.0.0.1 below %d", lastPort)
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(p.next))
		if free(addr) {
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
