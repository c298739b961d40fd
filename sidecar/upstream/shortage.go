package upstream

import (
	"context"
	"errors"
	"maps"
	"slices"
	"syscall"

	"github.com/isthmus-mesh/isthmus/internal/state"
)

// shortage returns what an operator does about err when a connection fails for what
// this process or machine lacks or forbids; empty: it is about the host.
func shortage(err error) string {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return "raise this process's limit of open files (LimitNOFILE of its unit, ulimit -n)"
	case errors.Is(err, syscall.ENFILE):
		return "raise this machine's limit of open files (fs.file-max)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this machine has no local address or port left for it: widen net.ipv4.ip_local_port_range"
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		return "the kernel of this machine has no memory left for sockets: see net.ipv4.tcp_mem"
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return "this machine forbids it: see its packet filter and the process's restrictions"
	}
	return ""
}

// noDescriptor reports whether err says that this process can open nothing more.
func noDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// makeRoom is called when err says that there is no descriptor for a connection: idle
// ones go first. It reports whether to try once more.
func (s *Service) makeRoom(ctx context.Context, err error) bool {
	if !noDescriptor(err) {
		return false
	}
	if short := s.shared.cfg.Short; short != nil {
		short()
	} else {
		s.Shed()
	}
	return state.Pause(ctx, shedPause)
}

// Shed closes the shared connections that nobody uses, and the older half of the other idle
// ones: the process is out of descriptors.
func (s *Set) Shed() {
	for _, service := range *s.services.Load() {
		service.Shed()
	}
}

// Shed is [Set.Shed] for one service.
func (s *Service) Shed() {
	s.mu.Lock()
	hosts := slices.Collect(maps.Values(s.hosts))
	s.mu.Unlock()
	for _, h := range hosts {
		h.sharing.shed()
		h.pool.shed()
	}
}

// shed closes the older half of what is idle, at least one.
func (p *pool) shed() {
	p.mu.Lock()
	var idle []instant
	for _, i := range p.instances.all {
		for _, c := range i.idle {
			idle = append(idle, c.since)
		}
	}
	p.mu.Unlock()
	if len(idle) == 0 {
		return
	}
	slices.Sort(idle)
	until := idle[len(idle)/2]
	p.closeIf(func(c *Conn) bool { return c.since <= until })
}
