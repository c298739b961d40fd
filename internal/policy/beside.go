package policy

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Beside says that a port of a service leads to the same program as one of another service does:
// several Services of Kubernetes select the same pods.
type Beside struct {
	Service mesh.ServiceName // the other one, of the same namespace
	Port    uint16           // of that
	As      uint16           // of this
}

// WithBeside returns the policies in force for a service that has ports, out of all of its
// namespace, so that what is written for one service is not passed by calling its programs through
// another. A program is as closed as the service that is closed most:
//
//   - What denies calls of one service denies those of the others, too, at the ports that lead to
//     the same programs.
//   - A service that has an allowing policy of its own goes by that. One that has none goes by the allowing
//     policies of the others at these ports, and by the default at its other ports.
//
// Policies about all services of the namespace hold for each in any case.
func WithBeside(service mesh.ServiceName, ports []uint16, all []Policy, besides []Beside) []Policy {
	var in []Policy
	allows := false
	for i := range all {
		if p := &all[i]; p.For(service) {
			in = append(in, *p)
			allows = allows || p.Action == Allow && !p.DryRun
		}
	}
	var closed []uint16 // ports without the default
	tries := true       // all of what closes them only tries
	for i := range all {
		p := &all[i]
		if p.For(service) || p.Action == Allow && allows {
			continue
		}
		if as, of := p.as(service, besides); as != nil {
			in = append(in, *as)
			if p.Action == Allow {
				closed = append(closed, of...)
				tries = tries && p.DryRun
			}
		}
	}
	open := slices.DeleteFunc(slices.Clone(ports), func(n uint16) bool { return slices.Contains(closed, n) })
	if len(closed) > 0 && len(open) > 0 && len(open) <= MaxValues && len(in) < MaxPolicies {
		in = append(in, Policy{Namespace: service.Namespace, Name: "default-of-other-ports", Services: []string{service.Name}, Action: Allow, DryRun: tries,
			Rules: []Rule{{From: []Callers{{Namespace: service.Namespace, ServiceAccount: Any}}, Ports: open}}})
	}
	return in
}

// as returns p as it holds for another service by what is beside, and for which of its ports; nil:
// it does not.
func (p *Policy) as(service mesh.ServiceName, besides []Beside) (as *Policy, ports []uint16) {
	byPort := map[uint16][]uint16{}
	for _, b := range besides {
		if p.For(b.Service) {
			byPort[b.Port] = append(byPort[b.Port], b.As)
			ports = append(ports, b.As)
		}
	}
	if len(ports) == 0 {
		return nil, nil
	}
	ports = few(ports)
	next := *p
	next.Services, next.Rules = []string{service.Name}, nil
	if p.Name == "" { // the allow list of its Service
		next.Name = p.Services[0]
	}
	for i := range p.Rules {
		rule := p.Rules[i]
		rule.Ports = ports
		if of := p.Rules[i].Ports; len(of) > 0 {
			rule.Ports = nil
			for _, n := range of {
				rule.Ports = append(rule.Ports, byPort[n]...)
			}
			rule.Ports = few(rule.Ports)
		}
		if len(rule.Ports) > 0 {
			next.Rules = append(next.Rules, rule)
		}
	}
	if p.Action == Deny && len(next.Rules) == 0 {
		return nil, nil
	}
	return &next, ports
}

// few returns ports sorted, each once, as many as a rule may have: a Service of Kubernetes
// has a few.
func few(ports []uint16) []uint16 {
	slices.Sort(ports)
	ports = slices.Compact(ports)
	return ports[:min(len(ports), MaxValues)]
}
