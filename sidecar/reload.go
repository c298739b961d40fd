package sidecar

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/enroll"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// Reload reads the configuration again and puts in force what can change while the
// program runs: see withReloaded. A bad one changes nothing.
func (s *Sidecar) Reload(ctx context.Context) *status.Reload { return s.reloader.Reload(ctx) }

// reload is one reload. The reloader runs one at a time.
func (s *Sidecar) reload(ctx context.Context) (changed, restart []string, err error) {
	if s.opts.Configuration == nil {
		return nil, nil, errors.New("there is no file to read it from")
	}
	file, err := s.opts.Configuration()
	if err != nil {
		return nil, nil, err
	}
	if err := Check(file); err != nil {
		return nil, nil, err
	}
	before := s.inForce.Load()
	after := s.withReloaded(before, file)
	listeners, err := explicit(after)
	if err != nil {
		return nil, nil, err
	}
	if err := s.proxy.SetExplicit(ctx, listeners); err != nil {
		return nil, nil, err
	}
	if err := enroll.TrustDomains(s.identity, after.TrustDomains); err != nil {
		return nil, nil, err // Check has found it good: a file has changed since
	}
	s.inForce.Set(after)
	s.ads.Subscribe(declared(after)...)
	if s.capture == nil { // else the program may use them by name
		s.ads.Unsubscribe(slices.DeleteFunc(declared(before), func(d mesh.Destination) bool {
			return slices.Contains(declared(after), d)
		})...)
	}
	if s.opts.Level != nil {
		s.opts.Level.Set(slog.Level(after.Log.Level))
	}
	for _, p := range s.served {
		p.register()
	}
	return config.Changes(before, after), config.Changes(after, file), nil
}

// withReloaded returns what is in force with the keys of file that can change while
// the sidecar runs.
func (s *Sidecar) withReloaded(inForce, file *config.Sidecar) *config.Sidecar {
	next := *inForce
	next.Upstreams, next.Drain, next.TrustDomains = file.Upstreams, file.Drain, file.TrustDomains
	if s.opts.Level != nil {
		next.Log.Level = file.Log.Level
	}
	if inForce.Service != nil && file.Service != nil {
		service := *inForce.Service
		service.Advertise, service.Weight, service.Export, service.Health =
			file.Service.Advertise, file.Service.Weight, file.Service.Export, file.Service.Health
		next.Service = &service
	}
	next.Services = reloadedServices(inForce.Services, file.Services)
	return &next
}

// reloadedServices is withReloaded for services: a list of other services or ports waits
// for a restart whole.
func reloadedServices(inForce, file []config.ServiceOfPorts) []config.ServiceOfPorts {
	if len(inForce) != len(file) {
		return inForce
	}
	next := slices.Clone(inForce)
	for i := range next {
		to, from := &next[i], &file[i]
		if to.Name != from.Name || !slices.EqualFunc(to.Ports, from.Ports, func(a, b config.ServedPort) bool { return a.Port == b.Port }) {
			return inForce
		}
		to.Advertise, to.Weight, to.Export = from.Advertise, from.Weight, from.Export
		to.Ports = slices.Clone(to.Ports)
		for j := range to.Ports {
			to.Ports[j].Export, to.Ports[j].Health = from.Ports[j].Export, from.Ports[j].Health
		}
	}
	return next
}
