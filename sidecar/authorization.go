package sidecar

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/policy"
)

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
	callers := s.callers.of(set.Service)
	first := callers.Load() == nil
	callers.Set(a)
	for _, p := range s.served {
		if first && p.callers == callers {
			p.register()
		}
	}
	if first && s.told != nil {
		s.told.serve()
	}
	s.log.Info("who may call the service is known", "service", set.Service.String(), "policies", len(set.Policies), "exported", len(set.Exported) > 0)
}

// unknownPolicy names the services of which no gateway has told yet who may call.
func (s *Sidecar) unknownPolicy() string {
	var unknown []string
	for _, p := range s.served {
		if name := p.of.Service.String(); p.callers.Load() == nil && !slices.Contains(unknown, name) {
			unknown = append(unknown, name)
		}
	}
	for _, p := range s.told.ports() {
		if name := p.Service.String(); s.callers.of(p.Service).Load() == nil && !slices.Contains(unknown, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return ""
	}
	return "no gateway has told yet who may call " + some(unknown)
}
