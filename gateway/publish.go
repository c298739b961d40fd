package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
)

// joinTime is how long a gateway that starts waits for the first answer from those
// it joins before it tells its sidecars what there is.
const joinTime = 3 * time.Second

// Why a gateway does not know everything yet.
const (
	justStarted = "it has just started"
	metNobody   = "it has met none of the gateways that it joins"
	metNoneYet  = "it has restarted, and met none of the gateways that it knew"
)

// publish tells the others what changes: the data plane gets a new router, the
// federation this cluster's exports, the sidecars their routes and, where they serve,
// who may call. Of what it has not
// heard of yet it says nothing: a gateway that has met none of those it joins, or none
// since its restart, knows its own cluster, and cannot say what others do not have.
func (g *Gateway) publish(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-g.federation.Opened():
	}
	waited := time.NewTimer(joinTime)
	defer waited.Stop()
	var published []mesh.Service // what the federation was last given
	forget := time.NewTimer(rememberFor)
	defer forget.Stop()
	joining := slices.ContainsFunc(g.cfg.Join, func(a string) bool { return a != g.cfg.Advertise })
	met := !joining // who is alone, or first, or joins itself
	var past departed
	var proved proven
	var said conflicts // what the log was last told
	for {
		services, servicesPast := g.services.Snapshot()
		resources, resourcesPast := g.resources.Snapshot()
		policies, policiesPast := g.resources.Policies()
		written, fileRoutesPast, apiRoutesPast := g.writtenRoutes()
		g.authorize(services, resources, policies)
		view, viewPast := g.federation.View()
		met = met || view.Met()
		joining = joining && !slices.ContainsFunc(view.Origins, func(o federation.Origin) bool {
			return o.ID != view.Self && !o.Stale
		})
		var known Knowledge
		var unproved time.Duration
		known.Proved, unproved = proved.update(proversOf(view, services), time.Now())
		switch {
		case services == nil || joining: // nil: not known yet
			known.Missing = justStarted
		case !met:
			known.Missing = metNobody
		case view.Awaiting:
			known.Missing = metNoneYet
		}
		router := NewRouter(view, services, known, g.tunnel.RTT)
		if services != nil && written != nil && !joining {
			router.conflicts.logChanges(said, g.log)
			said = router.conflicts
			routes, next := past.update(routesOf(view, services, router), time.Now())
			if unproved > 0 && (next == 0 || unproved < next) {
				next = unproved
			}
			if next > 0 {
				forget.Reset(next)
			}
			router.known.Gone = past.destinations()
			g.resolved(applyRules(routes, services, written, view.Self.Cluster))
			g.xds.Publish(routes, known.Missing == "")
		}
		g.router.Store(router)
		if services != nil {
			g.forward.Retire(router.Serves)
			g.servicesKnown.Met()
			g.publishImports(view, services, known.Missing == "")
		}
		if services != nil && !sameSet(services, published) {
			published = services
			g.federation.Publish(exportsOf(services, g.identity.ID().String()))
		}
		g.met.Store(met)
		select {
		case <-ctx.Done():
			return nil
		case <-waited.C:
			joining = false
		case <-forget.C:
		case <-servicesPast:
		case <-resourcesPast:
		case <-policiesPast:
		case <-fileRoutesPast:
		case <-apiRoutesPast:
		case <-viewPast:
		}
	}
}

// authorize puts in force who may call, once all of what decides it is known. Whoever
// may not any more is cut off.
func (g *Gateway) authorize(services []mesh.Service, resources []discovery.Described, policies []policy.Policy) {
	was := g.authorizers.Load()
	if services == nil || policies == nil || was.madeOf(services, resources, policies) {
		return
	}
	id := g.identity.ID()
	next, err := authorizersOf(was, services, resources, policies, home{id.TrustDomain, id.Cluster})
	if err != nil {
		g.log.Error("who may call is not changed", "err", err)
		return
	}
	g.authorizers.Store(next)
	g.xds.PublishPolicies(next.told())
	if !next.decidesAs(was) {
		g.forward.JudgeCallers()
	}
}

// sameSet reports whether a and b are one published value, which never changes.
func sameSet[T any](a, b []T) bool {
	return b != nil && len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
