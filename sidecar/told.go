package sidecar

import (
	"context"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/status"
	"github.com/isthmus-mesh/isthmus/sidecar/beside"
	"github.com/isthmus-mesh/isthmus/sidecar/proxy"
)

// In a pod what runs beside is not configured: the gateways know it from Kubernetes, and
// nothing is registered or checked here. Whether the program is ready the kubelet finds out.

// isTold reports whether a gateway tells what runs beside.
func (s *Sidecar) isTold() bool { return s.mode == config.Pod && len(s.cfg.Served()) == 0 }

// told is what it has told; nil: nothing yet, or this sidecar is not told.
func (s *Sidecar) told() []beside.Port {
	if s.beside == nil {
		return nil
	}
	if ports, _ := s.beside.Snapshot(); ports != nil {
		return *ports
	}
	return nil
}

// followTold serves what is told until ctx ends.
func (s *Sidecar) followTold(ctx context.Context) error {
	for {
		_, past := s.beside.Snapshot()
		s.serveTold()
		select {
		case <-past:
		case <-ctx.Done():
			return nil
		}
	}
}

// serveTold serves what has been told. A port is served once it is known who may call it: a
// caller that is refused before it has said anything asks another instance.
func (s *Sidecar) serveTold() {
	s.serving.Lock() // one at a time: the last has seen the newest
	defer s.serving.Unlock()
	var services []mesh.ServiceName
	var served []proxy.Served
	for _, p := range s.told() {
		if !slices.Contains(services, p.Service) {
			services = append(services, p.Service)
		}
		callers := s.callersOf(p.Service)
		if callers.Load() == nil {
			continue
		}
		served = append(served, proxy.Served{
			Service: p.Service, Port: p.Port, Target: p.Target, Protocol: p.Protocol,
			Dial: s.dialProgram, Policy: callers, Observer: s.calls,
		})
	}
	s.ads.SetServices(services)
	s.direct.serve(services)
	if err := s.proxy.SetServed(served); err != nil {
		s.log.Error("what a gateway says that runs beside is not served", "err", err)
	}
}

// callersOf is who may call a service beside.
func (s *Sidecar) callersOf(name mesh.ServiceName) *state.Store[*policy.Authorizer] {
	s.callersMu.Lock()
	defer s.callersMu.Unlock()
	if s.callers[name] == nil {
		s.callers[name] = new(state.Store[*policy.Authorizer])
	}
	return s.callers[name]
}

// untold says why it is not known what runs beside; empty: it is.
func (s *Sidecar) untold() string {
	if ports, _ := s.beside.Snapshot(); ports == nil {
		return "no gateway has told yet what this pod serves"
	}
	return ""
}

// toldStatus is what is told, for the status. It is ready once callers are let in.
func (s *Sidecar) toldStatus() (all []status.Registration) {
	for _, p := range s.told() {
		all = append(all, status.Registration{
			Service: p.Service, Port: p.Port, Protocol: p.Protocol, Target: p.Target, Ready: s.callersOf(p.Service).Load() != nil,
		})
	}
	return all
}
