package gateway

import (
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
)

// program is where a program listens, as far as this cluster knows.
type program struct {
	host string
	port uint16
}

// programOf returns the program behind an endpoint; false: which one that is only its sidecar knows.
func programOf(e *mesh.Endpoint) (program, bool) {
	at := strings.LastIndexByte(e.Address, ':')
	if at < 0 || e.Identity != "" && e.Target == 0 {
		return program{}, false
	}
	if e.Target != 0 {
		return program{e.Address[:at], e.Target}, true
	}
	port, err := strconv.ParseUint(e.Address[at+1:], 10, 16)
	return program{e.Address[:at], uint16(port)}, err == nil
}

// maxBesides bounds what is beside one service; one that has more is closed: what is left
// out might refuse.
const maxBesides = 512

// policiesFor returns those in force for a service, out of all of its namespace.
func policiesFor(s *mesh.Service, all []policy.Policy, besides []policy.Beside) []policy.Policy {
	if len(besides) > maxBesides {
		return []policy.Policy{policy.Closing(s.Name.Namespace, "too-many-services", "policies name more than "+strconv.Itoa(maxBesides)+" ports of other services that lead to the same pods as "+s.Name.String())}
	}
	return policy.WithBeside(s.Name, portsOf(s), all, besides)
}

// besidesOf returns of each service the others of its namespace that lead to the same programs
// and that a policy names: what is written for those holds for it, too.
func besidesOf(services []mesh.Service, policies []policy.Policy) map[mesh.ServiceName][]policy.Beside {
	named, namespaces := map[mesh.ServiceName]bool{}, map[string]bool{}
	for i := range policies {
		for _, s := range policies[i].Services {
			named[mesh.ServiceName{Namespace: policies[i].Namespace, Name: s}] = true
			namespaces[policies[i].Namespace] = true
		}
	}
	at := map[program][]mesh.Destination{}
	known := map[mesh.Destination]map[program]bool{}
	each := func(s *mesh.Service, do func(port uint16, at program)) {
		for i := range s.Ports {
			for j := range s.Ports[i].Endpoints {
				if p, ok := programOf(&s.Ports[i].Endpoints[j]); ok {
					do(s.Ports[i].Port, p)
				}
			}
		}
	}
	for i := range services {
		if s := &services[i]; named[s.Name] {
			each(s, func(port uint16, p program) {
				d := mesh.Destination{Service: s.Name, Port: port}
				if known[d] == nil {
					known[d] = map[program]bool{}
				}
				if !known[d][p] {
					known[d][p] = true
					at[p] = append(at[p], d)
				}
			})
		}
	}
	all := map[mesh.ServiceName][]policy.Beside{}
	for i := range services {
		s := &services[i]
		if !namespaces[s.Name.Namespace] {
			continue
		}
		seen := map[policy.Beside]bool{}
		each(s, func(port uint16, p program) {
			for _, d := range at[p] {
				if len(seen) > maxBesides {
					return
				}
				b := policy.Beside{Service: d.Service, Port: d.Port, As: port}
				if d.Service != s.Name && d.Service.Namespace == s.Name.Namespace && !seen[b] {
					seen[b] = true
					all[s.Name] = append(all[s.Name], b)
				}
			}
		})
	}
	return all
}
