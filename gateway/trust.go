package gateway

import (
	"context"
	"fmt"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// takeBundle is what POST /trust on the admin port does: anybody may bring a bundle, since
// a root has signed it.
func (g *Gateway) takeBundle(signed []byte) (changed bool, err error) {
	if changed, err = g.identity.Trust().Accept(signed); err != nil {
		g.audit.Add(audit.Event{Kind: audit.Trust, Decision: audit.Refused, What: "a bundle", Why: err.Error()})
	}
	return changed, err
}

// auditTrust writes down which bundles come into force, until ctx ends.
func (g *Gateway) auditTrust(ctx context.Context) error {
	g.identity.Trust().WatchBundles(ctx, func(b *identity.Bundle) {
		g.audit.Add(audit.Event{Kind: audit.Trust, Decision: audit.Granted, What: b.String()})
	})
	return nil
}

// trustStatus says what is trusted, and who of the mesh is behind.
func (g *Gateway) trustStatus(view *federation.View) []status.Trust {
	all := status.TrustOf(g.identity)
	reports := g.federation.TrustReports()
	reports[g.cfg.ID()] = g.federation.TrustReport()
	for i := range all {
		t := &all[i]
		for j := range view.Gateways {
			id := view.Gateways[j].ID
			r, said := reports[id]
			if !said && !g.identity.Trust().Takes(id) {
				continue // it is revoked, or of a trust domain that is none of ours
			}
			if !said {
				t.Lacking = append(t.Lacking, status.Lacking{Gateway: id, Bundle: true, Why: "out of reach: nobody knows what it holds"})
				continue
			}
			t.Lacking = append(t.Lacking, lackingOf(id, &r, t)...)
			t.Sidecars += r.Sidecars
		}
	}
	return all
}

// lackingOf returns what of a trust domain a gateway and its sidecars lack, by its report.
func lackingOf(id mesh.GatewayID, r *federation.TrustReport, t *status.Trust) (all []status.Lacking) {
	held, takes := r.Held[t.Domain]
	if !takes {
		return nil
	}
	l := status.Lacking{Gateway: id, Bundle: held.Number < t.Bundle, Has: held.Number}
	if t.Own && r.Outdated {
		l.Root = r.Root
	}
	if l.Bundle || l.Root != "" {
		all = append(all, l)
	}
	for _, s := range r.Behind {
		l := status.Lacking{Gateway: id, Sidecar: s.ID, Why: s.Refused}
		l.Has, l.Bundle = s.Lacks[t.Domain], false
		if _, lacks := s.Lacks[t.Domain]; lacks {
			l.Bundle = true
		}
		if t.Own && s.Outdated {
			l.Root = s.Root
		}
		if l.Bundle || l.Root != "" {
			all = append(all, l)
		}
	}
	if r.More > 0 {
		all = append(all, status.Lacking{Gateway: id, Bundle: true, Why: fmt.Sprintf("and %d more of its sidecars are behind", r.More)})
	}
	return all
}

// sidecarsBehind returns the sidecars that hold less than this gateway, and how many have
// said what they hold.
func (g *Gateway) sidecarsBehind() (behind []federation.TrustSidecar, all int) {
	held, sidecars := g.identity.Trust().Held(), g.bundles.Sidecars()
	for _, s := range sidecars {
		lacks := map[string]uint64{}
		for td, number := range held {
			if has, takes := s.Held[td]; takes && has < number {
				lacks[td] = has
			}
		}
		if len(lacks) > 0 || s.OutdatedRoot || s.Refused != "" {
			behind = append(behind, federation.TrustSidecar{ID: s.ID, Lacks: lacks, Root: s.Root, Outdated: s.OutdatedRoot, Refused: s.Refused})
		}
	}
	return behind, len(sidecars)
}
