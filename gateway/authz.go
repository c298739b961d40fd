package gateway

import (
	"fmt"
	"net/url"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/authorize"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// unvouched reports whether the certificate of a caller's cluster names namespaces and not
// the caller's, by what the cluster's gateways have signed with. Not known: no gateway of it
// has been heard, or they show different ones.
func unvouched(view *federation.View, caller identity.ID) (not, known bool) {
	for i := range view.Origins {
		s := &view.Origins[i].Signer
		if s.Cluster != caller.Cluster || s.TrustDomain != caller.TrustDomain {
			continue
		}
		may := s.MayOffer(caller.Namespace)
		if known && not == may {
			return false, false
		}
		not, known = !may, true
	}
	return not, known
}

// wouldAllow answers `isthmus authz`.
func (g *Gateway) wouldAllow(query url.Values) *status.Authorization {
	id := g.identity.ID()
	q, err := authorize.ParseQuestion(query.Get("caller"), query.Get("service"), query.Get("method"), query.Get("path"), id.TrustDomain, id.Cluster)
	if err == nil {
		err = q.In(id.Cluster)
	}
	if err != nil {
		return &status.Authorization{Error: err.Error()}
	}
	view, _ := g.federation.View()
	q.Caller.Unvouched, q.Seen = unvouched(view, q.Caller.ID)
	q.Entrance = g.cfg.Entrance.Ports.First != 0
	now := g.authorizers.Load()
	a := now.of(q.To.Service)
	if a == nil {
		why := fmt.Sprintf("no service %s in cluster %s: ask a gateway of a cluster that has it", q.To.Service, id.Cluster)
		if now == nil {
			why = g.unknownPolicies()
		}
		return &status.Authorization{Error: why}
	}
	for i := range now.services {
		if s := &now.services[i]; s.Name == q.To.Service {
			p, found := s.PortNumbered(q.To.Port)
			if !found {
				return &status.Authorization{Error: fmt.Sprintf("%s has no port %d", q.To.Service, q.To.Port)}
			}
			q.To.Port = p.Port
			return q.Answer(a, id.Cluster, p.Protocol == mesh.TCP, isPlain(p))
		}
	}
	return &status.Authorization{Error: fmt.Sprintf("no service %s", q.To.Service)}
}
