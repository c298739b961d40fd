package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
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
	serving   chan struct{} // closed when the program's traffic comes here
}

// newCapture puts interception in place, or takes what root has put there for
// us, and makes what it sends the program's traffic to.
func (s *Sidecar) newCapture() (_ *capture, err error) {
	cfg := &s.cfg.Interception
	servers, err := dns.SystemServers(resolvConf)
	if err != nil {
		return nil, err
	}
	c := &capture{serving: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if c.cgroup, err = openCgroup(cfg); err != nil {
		return c, err
	}
	if err := claimCgroup(c.cgroup); err != nil {
		return c, err
	}
	put, err := interceptionConfig(s.cfg, c.cgroup.Name(), s.log)
	if err != nil {
		return c, err
	}
	way := interception.EBPF
	if s.mode == config.NFTables {
		way = interception.NFTables
		put.Inbound = nil // auto came here: fallBack has said so
	}
	if c.intercept, err = interception.Start(way, put); err != nil {
		return c, err
	}
	if c.addresses, err = dns.OpenTable(filepath.Join(s.cfg.State, "addresses"), s.log); err != nil {
		return c, err
	}
	listen := loopbacks(cfg.DNSPort)
	c.dns, err = dns.New(dns.Config{
		Listen: listen, Upstreams: servers, Table: c.addresses, WithoutIPv6: len(listen) == 1,
		Ports: s.portsOf, Release: func(d mesh.Destination) { s.ads.Unsubscribe(d) },
		Log: s.log, Metrics: s.registry,
	})
	return c, err
}

// interceptionMode is the configured one, or for auto the best that this process
// can do here; a warning says what the better one lacks.
func interceptionMode(cfg *config.Interception, log *slog.Logger) config.InterceptionMode {
	if cfg.Mode != config.Auto {
		return cfg.Mode
	}
	if os.Geteuid() == 0 {
		missing := interception.Probe().Err()
		if missing == nil {
			return config.EBPF
		}
		fallBack(cfg, config.NFTables, missing, log)
		return config.NFTables
	}
	i, err := interception.Open("", cfg.Name)
	if err != nil {
		fallBack(cfg, config.Explicit, err, log)
		return config.Explicit
	}
	_ = i.Close() // it is opened again to be used
	return config.EBPF
}

// interceptionStatus says what is in place.
func (s *Sidecar) interceptionStatus() status.Interception {
	st := status.Interception{Mode: string(s.mode)}
	if s.capture == nil {
		return st
	}
	cfg := &s.cfg.Interception
	st.Name, st.Cgroup, st.OnFailure = cfg.Name, s.capture.cgroup.Name(), string(cfg.OnFailure)
	if s.mode == config.EBPF {
		st.Inbound, st.Accelerating = string(cfg.Inbound), s.capture.intercept.Accelerating()
	}
	return st
}

// fallBack tells what auto chose, and what is lost by it.
func fallBack(cfg *config.Interception, to config.InterceptionMode, why error, log *slog.Logger) {
	log.Warn("interception falls back", "mode", to, "err", why)
	if to == config.Explicit {
		log.Warn("nothing is captured: the program reaches the mesh by the listeners of upstreams only")
	}
	if cfg.Inbound == config.InboundStrict {
		log.Warn("callers of the program's own port are not refused: have it listen on loopback only")
	}
}

// portsOf returns the ports of a service, which it waits for.
func (s *Sidecar) portsOf(ctx context.Context, service mesh.Destination) ([]mesh.RoutePort, error) {
	r, err := s.routes.Wait(ctx, service)
	if err != nil {
		return nil, err
	}
	return r.Ports, nil
}

// Attach makes the program's cgroup when it does not exist and puts interception
// in place for a sidecar with this configuration, which uid and gid run. It needs
// root.
func Attach(cfg *config.Sidecar, uid, gid int, log *slog.Logger) (*interception.Handle, error) {
	cgroup, err := openCgroup(&cfg.Interception)
	if err != nil {
		return nil, err
	}
	defer cgroup.Close()
	put, err := interceptionConfig(cfg, cgroup.Name(), log)
	if err != nil {
		return nil, err
	}
	put.UID, put.GID = uid, gid
	return interception.Attach(put)
}

func interceptionConfig(cfg *config.Sidecar, cgroup string, log *slog.Logger) (interception.Config, error) {
	i := &cfg.Interception
	port, err := steeredPort(cfg)
	if err != nil {
		return interception.Config{}, err
	}
	put := interception.Config{
		Name: i.Name, Cgroup: cgroup, Captured: dns.Prefixes(),
		OutboundPort: i.OutboundPort, DNSPort: i.DNSPort, OnFailure: interception.OnFailure(i.OnFailure), Log: log,
	}
	if port != 0 {
		put.Inbound = []uint16{port}
	}
	return put, nil
}

// Detach removes what Attach put in place under a name, and the cgroup of that
// name when no program is left in it, and reports whether there was anything. It
// needs root.
func Detach(name string) (removed bool, err error) {
	root, err := interception.CgroupRoot()
	if err != nil {
		return false, err
	}
	path := filepath.Join(root, config.CgroupOf(name))
	if cgroup, err := os.Open(path); err == nil {
		defer cgroup.Close()
		if err := claimCgroup(cgroup); err != nil {
			return false, err
		}
	}
	if removed, err = interception.Detach("", name); err != nil {
		return removed, err
	}
	err = unix.Rmdir(path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EBUSY) {
		return removed, nil // another one was configured, or the program runs on
	}
	return true, err
}

// openCgroup opens the program's cgroup, which root makes when it is not there.
func openCgroup(cfg *config.Interception) (*os.File, error) {
	path := cfg.Cgroup
	if !filepath.IsAbs(path) {
		root, err := interception.CgroupRoot()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(root, path)
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, fmt.Errorf("make the program's cgroup: %w", err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the program's cgroup: %w: run isthmus intercept attach as root", err)
	}
	return f, nil
}

// claimCgroup locks the program's cgroup for as long as it is open.
func claimCgroup(cgroup *os.File) error {
	if err := unix.Flock(int(cgroup.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("a sidecar captures cgroup %s: stop it, or give another an interception.name of its own", cgroup.Name())
	}
	return nil
}

// run answers DNS and lets the hooks send the program's traffic to us, once the
// listeners of p are bound.
func (c *capture) run(ctx context.Context, p *proxy.Proxy) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.dns.Run(ctx) })
	group.Go(func() error {
		select {
		case <-c.dns.Ready():
		case <-ctx.Done():
			return nil
		}
		if err := c.intercept.Serve(interception.Sockets{Outbound: p.Captured(), DNS: c.dns.Listeners(), Inbound: p.Steered()}); err != nil {
			return err
		}
		close(c.serving)
		return nil
	})
	return group.Wait()
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
