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

// applyPolicy puts in force what a gateway told, now or before the restart. It was
// checked when it was accepted. Until then nobody may call: what holds by default may be
// more than the operator allows. The gateways are not told before that the service is
// ready, so that nobody is sent here.
func (s *Sidecar) applyPolicy(set *policy.Set) {
	id := s.identity.ID()
	a, err := policy.Compile(set, id.TrustDomain, id.Cluster)
	if err != nil {
		s.log.Error("who may call: what was told cannot be used, the old stays", "err", err)
		return
	}
	first := s.callers.Load() == nil
	s.callers.Set(a)
	s.log.Info("who may call the service is known", "service", set.Service.String(), "policies", len(set.Policies), "exported", len(set.Exported) > 0)
	if first {
		s.register()
	}
}

// policyKnown reports whether it is known who may call the service beside.
func (s *Sidecar) policyKnown() bool { return s.callers.Load() != nil }

// unknownPolicy says that no gateway has told who may call yet.
func (s *Sidecar) unknownPolicy() string {
	if s.policyKnown() {
		return ""
	}
	return "no gateway has told yet who may call " + s.cfg.Service.Name.String()
}
