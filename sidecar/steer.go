package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/sidecar/proxy"
)

// steeredPorts returns the program's ports whose callers come to the sidecar: none when
// they do not. The program must be on this host: the hooks see nothing of others.
func steeredPorts(cfg *config.Sidecar) ([]uint16, error) {
	if cfg.Interception.Inbound == config.InboundOff {
		return nil, nil
	}
	var ports []uint16
	for _, svc := range cfg.Served() {
		port, err := steeredPort(&svc, cfg.Interception.Inbound)
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func steeredPort(svc *config.Served, inbound config.Inbound) (uint16, error) {
	host, port, err := net.SplitHostPort(svc.Target)
	if err != nil {
		return 0, err
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(host, "0"))
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return 0, fmt.Errorf("interception.inbound %s is for a program on this host, and %s.target %s is not: write inbound: off",
			inbound, svc.Key, svc.Target)
	}
	if err != nil {
		return 0, fmt.Errorf("find out whether %s.target %s is on this host: %w", svc.Key, svc.Target, err)
	}
	_ = l.Close()
	n, err := strconv.ParseUint(port, 10, 16)
	return uint16(n), err
}

// steers reports whether connections to the program's port come to the sidecar by hooks
// of its own.
func (s *Sidecar) steers() bool {
	return s.mode == config.EBPF && s.cfg.Interception.Inbound != config.InboundOff
}

// steered are the listeners for them, nil when there are none.
func (s *Sidecar) steered() *proxy.Steered {
	if s.mode == config.Pod {
		return s.steeredInPod()
	}
	if !s.steers() {
		return nil
	}
	st := &proxy.Steered{Permissive: s.cfg.Interception.Inbound == config.InboundPermissive}
	for _, a := range loopbacks(0) { // any port: only the hooks need to find it
		st.Listen = append(st.Listen, a.String())
	}
	return st
}

// dialProgram connects to the program beside, past the hook that has everybody
// else's connections come here.
func (s *Sidecar) dialProgram(ctx context.Context, network, addr string) (net.Conn, error) {
	if s.steers() {
		c, err := s.capture.intercept.DialProgram(ctx, addr, proxy.Caller(ctx))
		if tcp, ok := c.(*net.TCPConn); ok && s.accelerates() {
			return s.accelerate(tcp), nil
		}
		return c, err
	}
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}
