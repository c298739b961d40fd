package gateway

import (
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// provers are the clusters whose endpoints of a port answer with identities of their own.
type provers map[servicePort][]mesh.ClusterName

// proversOf is pure.
func proversOf(view *federation.View, local []mesh.Service) provers {
	all := provers{}
	for i := range local {
		for j := range local[i].Ports {
			if p := &local[i].Ports[j]; servesProved(p) {
				at := servicePort{local[i].Name, p.Port}
				all[at] = append(all[at], view.Self.Cluster)
			}
		}
	}
	for _, name := range view.Services() {
		for _, x := range view.Exports(name) {
			for i := range x.Export.Ports {
				if p := &x.Export.Ports[i]; offersProved(p) {
					at := servicePort{name, p.Port}
					all[at] = append(all[at], x.Cluster)
				}
			}
		}
	}
	return all
}

// had reports whether it says anything of a port of the export.
func (p provers) had(e *mesh.Export) bool {
	return len(p) > 0 && slices.ContainsFunc(e.Ports, func(port mesh.ExportPort) bool { return p[servicePort{e.Service, port.Port}] != nil })
}

func servesProved(p *mesh.ServicePort) bool {
	return slices.ContainsFunc(p.Endpoints, func(e mesh.Endpoint) bool { return e.Identity != "" })
}

func offersProved(p *mesh.ExportPort) bool { return !p.Plain && len(p.Identities) > 0 }

// proven is which ports nobody answers for with an identity any more, but somebody did
// within rememberFor. Until that is over plain endpoints of other clusters do not take
// their place: a service must not fall to whoever offers its name because its
// instances restart, or are made to. Its owner gives it the time.
type proven struct {
	now    provers // of the last update
	lately map[servicePort]unproven
}

type unproven struct {
	by    []mesh.ClusterName
	since time.Time
}

// update takes who answers with identity now. It returns by whom ports were answered
// lately that nobody answers now, and how long it takes until the first of those is
// forgotten; 0: there is none.
func (p *proven) update(next provers, now time.Time) (lately provers, forget time.Duration) {
	for at, by := range p.now {
		if next[at] != nil || len(p.lately) >= maxGone {
			continue
		}
		if p.lately == nil {
			p.lately = map[servicePort]unproven{}
		}
		p.lately[at] = unproven{by, now}
	}
	p.now = next
	for at, u := range p.lately {
		left := u.since.Add(rememberFor).Sub(now)
		if left <= 0 || next[at] != nil {
			delete(p.lately, at)
			continue
		}
		if lately == nil {
			lately = provers{}
		}
		lately[at] = u.by
		if forget == 0 || left < forget {
			forget = left
		}
	}
	return lately, forget
}
