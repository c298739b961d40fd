package sidecar

import (
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
)

// served is the service beside; zero without one.
func served(cfg *config.Sidecar) mesh.ServiceName {
	if cfg.Service == nil {
		return mesh.ServiceName{}
	}
	return cfg.Service.Name
}

// assumePolicy puts in force what holds until a gateway has told who may call the
// service beside: the strict default of a service that is not exported. Until then the
// gateways are not told that the service is ready, so that nobody is sent here.
func (s *Sidecar) assumePolicy() error {
	if s.cfg.Service == nil {
		return nil
	}
	return s.usePolicy(policy.SetOf(s.cfg.Service.Name, nil, nil))
}

// applyPolicy puts in force what a gateway told. It was checked when it was accepted.
func (s *Sidecar) applyPolicy(set *policy.Set) {
	if err := s.usePolicy(set); err != nil {
		s.log.Error("who may call: what was told cannot be used, the old stays", "err", err)
		return
	}
	s.log.Info("who may call the service is known", "service", set.Service.String(), "policies", len(set.Policies), "exported", len(set.Exported) > 0)
	if !s.policyKnown.Swap(true) {
		s.register()
	}
}

func (s *Sidecar) usePolicy(set *policy.Set) error {
	id := s.identity.ID()
	a, err := policy.Compile(set, id.TrustDomain, id.Cluster)
	if err == nil {
		s.callers.Set(a)
	}
	return err
}

// unknownPolicy says that no gateway has told who may call yet.
func (s *Sidecar) unknownPolicy() string {
	if s.policyKnown.Load() {
		return ""
	}
	return "no gateway has told yet who may call " + s.cfg.Service.Name.String()
}
