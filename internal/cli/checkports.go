package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
)

// operatorPorts looks at the ports for operators. Two of them have no
// authentication, and others reach whatever is not on loopback.
func (c *check) operatorPorts(ctx context.Context, admin, metrics, profiles string) {
	c.port(ctx, "tcp", "listen.admin", admin)
	if metrics != "" {
		c.port(ctx, "tcp", "listen.metrics", metrics)
	}
	if profiles != "" {
		c.port(ctx, "tcp", "listen.profiles", profiles)
	}
	if beyondLoopback(admin) {
		c.note("listen.admin %s: whoever reaches it may read the status and reload this process: write 127.0.0.1, and listen.metrics for what other hosts need", admin)
	}
	if beyondLoopback(profiles) {
		c.note("listen.profiles %s: whoever reaches it may read what is in this process's memory: write 127.0.0.1", profiles)
	}
}

// beyondLoopback reports whether an address is one that other hosts may reach. A
// host name may be.
func beyondLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host == "localhost" {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.IsLoopback()
}

// port finds out whether an address can be listened on. One that is not
// complete is a fault of the configuration already.
func (c *check) port(ctx context.Context, network, key, addr string) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return
	}
	var config net.ListenConfig
	var listener io.Closer
	var err error
	if network == "udp" {
		listener, err = config.ListenPacket(ctx, network, addr)
	} else {
		listener, err = config.Listen(ctx, network, addr)
	}
	if err != nil {
		problem := err.Error()
		if oe, ok := errors.AsType[*net.OpError](err); ok {
			problem = oe.Err.Error()
		}
		c.at(key, fmt.Sprintf("cannot listen on %s %s (%s): end what holds it, or write another address", network, addr, strings.TrimPrefix(problem, "bind: ")))
		return
	}
	listener.Close()
}
