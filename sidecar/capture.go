package sidecar

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/dns"
	"github.com/isthmus-mesh/isthmus/sidecar/proxy"
)

const resolvConf = "/etc/resolv.conf"

// capture is what makes the program's connections to mesh names arrive at the
// sidecar: the hooks that send them, the resolver that gives names addresses,
// and the table of these.
type capture struct {
	cgroup    *os.File // the program's; its lock says that we are its sidecar
	addresses *dns.Table
	dns       *dns.Server
	intercept *interception.Handle
	serving   chan struct{}    // closed when the program's traffic comes here; in a pod, when it may
	pod       *podTest         // nil unless in a pod
	direct    *directAddresses // the same
}

// newCapture puts interception in place, or takes what root has put there for
// us, and makes what it sends the program's traffic to.
func (s *Sidecar) newCapture() (_ *capture, err error) {
	resolvers, err := dns.OpenResolvConf(resolvConf, s.log)
	if err != nil {
		return nil, err
	}
	c := &capture{serving: make(chan struct{}), pod: s.podTest, direct: s.direct}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if err := s.intercept(c); err != nil {
		return c, err
	}
	if c.addresses, err = dns.OpenTable(filepath.Join(s.cfg.State, addressesFile), s.log); err != nil {
		return c, err
	}
	var inMesh func(context.Context, mesh.Destination) (bool, error) // nil: nobody asks by a name of Kubernetes
	if s.direct != nil {
		inMesh = s.direct.inMesh
	}
	listen := loopbacks(s.cfg.Interception.DNSPort)
	c.dns, err = dns.New(dns.Config{
		Listen: listen, ResolvConf: resolvers, Table: c.addresses, WithoutIPv6: len(listen) == 1,
		OriginalServer: c.intercept.OriginalServer, OriginalDestination: c.intercept.OriginalDestination,
		Ports: s.portsOf, InMesh: inMesh, Cluster: s.identity.ID().Cluster, Release: func(d mesh.Destination) {
			if s.direct == nil || !s.direct.keeps(d) {
				s.ads.Unsubscribe(d)
			}
		},
		Log: s.log, Metrics: s.registry,
	})
	if err != nil {
		return c, err
	}
	if err := s.registry.Register(c.intercept); err != nil {
		return c, err
	}
	return c, s.tryAcceleration(c.intercept)
}

// intercept puts interception in place for c, or finds what is there.
func (s *Sidecar) intercept(c *capture) (err error) {
	if s.mode == config.Pod {
		c.intercept, err = interception.Start(interception.Pod, interception.Config{})
		return err
	}
	if c.cgroup, err = openCgroup(&s.cfg.Interception); err != nil {
		return err
	}
	if err := claimCgroup(c.cgroup); err != nil {
		return err
	}
	put, err := interceptionConfig(s.cfg, c.cgroup.Name(), s.log)
	if err != nil {
		return err
	}
	way := interception.EBPF
	if s.mode == config.NFTables {
		way = interception.NFTables
		put.Inbound = nil // auto came here: fallBack has said so
	}
	c.intercept, err = interception.Start(way, put)
	return err
}

// original returns where the program wanted to go with a captured connection.
func (c *capture) original(conn net.Conn) (netip.AddrPort, bool) {
	to, ok := c.intercept.OriginalDestination(conn)
	if ok && c.pod != nil && c.pod.takes(to) {
		return to, false
	}
	return to, ok
}

// portsOf returns the ports of a service, which it waits for.
func (s *Sidecar) portsOf(ctx context.Context, service mesh.Destination) ([]mesh.RoutePort, error) {
	r, err := s.routes.Wait(ctx, service)
	if err != nil {
		return nil, err
	}
	return r.Ports, nil
}

// run answers DNS and lets the hooks send the program's traffic to us, once the
// listeners of p are bound.
func (c *capture) run(ctx context.Context, p *proxy.Proxy) error {
	all := newParts(ctx)
	all.Go(func() error { return c.dns.Run(all.ctx) })
	all.Go(func() error { c.addresses.Run(all.ctx); return nil })
	all.Go(func() error {
		if !all.await(c.dns.Ready()) {
			return nil
		}
		if err := c.intercept.Serve(interception.Sockets{Outbound: p.Captured(), DNS: c.dns.Listeners(), Inbound: p.Steered()}); err != nil {
			return err
		}
		close(c.serving)
		if c.pod != nil && c.pod.meet(all.ctx) {
			c.direct.follow(true) // before a program starts that knows ClusterIPs from variables
			c.pod.letStart()
			c.direct.run(all.ctx)
		}
		return nil
	})
	return all.Wait()
}

// close lets go of everything. Hooks stay attached, a table goes. It is the last
// thing: what still runs may ask for addresses.
func (c *capture) close() error {
	err := c.intercept.Close()
	if c.addresses != nil {
		err = errors.Join(err, c.addresses.Close())
	}
	if c.cgroup != nil {
		err = errors.Join(err, c.cgroup.Close())
	}
	return err
}

// loopbacks are the addresses that the hooks send to: 127.0.0.1, and ::1 where
// the host has it.
func loopbacks(port uint16) []netip.AddrPort {
	all := []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}
	if l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "[::1]:0"); err == nil {
		_ = l.Close()
		all = append(all, netip.AddrPortFrom(netip.IPv6Loopback(), port))
	}
	return all
}
