package gateway

import (
	"cmp"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/gateway/xds"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// authorizers is who may call each service of this cluster. It never changes.
type authorizers struct {
	byService map[mesh.ServiceName]*authorizer
	// Of which it was made.
	services  []mesh.Service
	resources []discovery.Described
	policies  []policy.Policy
}

type authorizer struct {
	*policy.Authorizer
	accounts []string        // service accounts that serve it
	plain    bool            // it has endpoints for which this gateway ends the TLS
	besides  []policy.Beside // sorted
}

// authorizersOf makes them of services, of what resources say of who serves, and of
// all policies of this cluster. What is the same as in was is the very one. The error of
// a service leaves it out, with what was.
func authorizersOf(was *authorizers, services []mesh.Service, resources []discovery.Described, all []policy.Policy, home home) (*authorizers, error) {
	next := &authorizers{services: services, resources: resources, policies: all, byService: make(map[mesh.ServiceName]*authorizer, len(services))}
	byNamespace := map[string][]policy.Policy{}
	for _, p := range all {
		byNamespace[p.Namespace] = append(byNamespace[p.Namespace], p)
	}
	besides := besidesOf(services, all)
	same := was != nil && sameSet(all, was.policies)
	for i := range services {
		s := &services[i]
		a := &authorizer{accounts: []string{s.Name.Name}, plain: hasPlain(s)}
		if i, found := slices.BinarySearchFunc(resources, s.Name, func(d discovery.Described, n mesh.ServiceName) int { return d.Service.Name.Compare(n) }); found {
			a.accounts = append(a.accounts, resources[i].Serves...)
		}
		a.accounts = withServing(a.accounts, s, home)
		exported := exportedPorts(s)
		a.besides = besides[s.Name]
		slices.SortFunc(a.besides, func(a, b policy.Beside) int {
			return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.As, b.As))
		})
		if was != nil {
			if old := was.byService[s.Name]; old != nil && same && slices.Equal(old.Set().Exported, exported) && slices.Equal(old.besides, a.besides) {
				a.Authorizer = old.Authorizer
			}
		}
		if a.Authorizer == nil {
			var err error
			if a.Authorizer, err = policy.Compile(policy.SetOf(s.Name, exported, policiesFor(s, byNamespace[s.Name.Namespace], a.besides)), home.trustDomain, home.cluster); err != nil {
				return was, err
			}
		}
		next.byService[s.Name] = a
	}
	return next, nil
}

// portsOf returns the ports of a service as callers name them.
func portsOf(s *mesh.Service) (ports []uint16) {
	for i := range s.Ports {
		ports = append(ports, s.Ports[i].Port)
	}
	return ports
}

// withServing adds the accounts of those who serve s: of pods Kubernetes says it, and of
// others the registry, which has let in only those that may.
func withServing(accounts []string, s *mesh.Service, home home) []string {
	of := identity.ID{TrustDomain: home.trustDomain, Cluster: home.cluster, Namespace: s.Name.Namespace}.String()
	for i := range s.Ports {
		for _, e := range s.Ports[i].Endpoints {
			if account, ok := strings.CutPrefix(e.Identity, of); ok && account != "" && !slices.Contains(accounts, account) {
				accounts = append(accounts, account)
			}
		}
	}
	slices.Sort(accounts[1:]) // the first is the service's own
	return accounts
}

// madeOf reports whether a was made of these very values.
func (a *authorizers) madeOf(services []mesh.Service, resources []discovery.Described, policies []policy.Policy) bool {
	return a != nil && sameSet(services, a.services) && sameSet(resources, a.resources) && sameSet(policies, a.policies)
}

// decidesAs reports whether a decides as was did about every service that was knew.
func (a *authorizers) decidesAs(was *authorizers) bool {
	if was == nil {
		return true // nobody was let in
	}
	for name, s := range was.byService {
		if a.of(name) != s.Authorizer {
			return false
		}
	}
	return true
}

// home is where the services are.
type home struct {
	trustDomain string
	cluster     mesh.ClusterName
}

func exportedPorts(s *mesh.Service) (ports []uint16) {
	for i := range s.Ports {
		if s.Ports[i].Exported {
			ports = append(ports, s.Ports[i].Port)
		}
	}
	slices.Sort(ports)
	return ports
}

func hasPlain(s *mesh.Service) bool {
	return slices.ContainsFunc(s.Ports, func(p mesh.ServicePort) bool { return isPlain(&p) })
}

// isPlain reports whether this gateway ends the TLS for an endpoint of p.
func isPlain(p *mesh.ServicePort) bool {
	return slices.ContainsFunc(p.Endpoints, func(e mesh.Endpoint) bool { return e.Identity == "" })
}

// of returns who may call a service; nil: that is not known.
func (a *authorizers) of(s mesh.ServiceName) *policy.Authorizer {
	if a == nil || a.byService[s] == nil {
		return nil
	}
	return a.byService[s].Authorizer
}

// told is what sidecars are told of them.
func (a *authorizers) told() []xds.Policy {
	all := make([]xds.Policy, 0, len(a.byService))
	for _, s := range a.byService {
		all = append(all, xds.Policy{Set: s.Set(), Accounts: s.accounts})
	}
	slices.SortFunc(all, func(x, y xds.Policy) int { return x.Set.Service.Compare(y.Set.Service) })
	return all
}

// unjudged names the rules of services with plain endpoints that this gateway, which
// sees no requests, cannot judge: they do not allow, and deny. Sorted.
func (a *authorizers) unjudged() (all []status.UnjudgedRule) {
	if a == nil {
		return nil
	}
	for name, s := range a.byService {
		if !s.plain {
			continue
		}
		for i := range s.Set().Policies {
			p := &s.Set().Policies[i]
			for n := range p.Rules {
				if p.Rules[n].L7() && !p.DryRun {
					all = append(all, status.UnjudgedRule{Service: name, Policy: p.String(), Rule: n, Action: string(p.Action)})
				}
			}
		}
	}
	slices.SortFunc(all, func(x, y status.UnjudgedRule) int {
		return cmp.Or(x.Service.Compare(y.Service), cmp.Compare(x.Policy, y.Policy), cmp.Compare(x.Rule, y.Rule))
	})
	return all
}
