package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
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
// federation this cluster's exports, the sidecars their routes. Of what it has not
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
	var said conflicts // what the log was last told
	for {
		services, servicesPast := g.services.Snapshot()
		view, viewPast := g.federation.View()
		met = met || view.Met()
		joining = joining && !slices.ContainsFunc(view.Origins, func(o federation.Origin) bool {
			return o.ID != view.Self && !o.Stale
		})
		var known Knowledge
		switch {
		case services == nil || joining: // nil: not known yet
			known.Missing = justStarted
		case !met:
			known.Missing = metNobody
		case view.Awaiting:
			known.Missing = metNoneYet
		}
		router := NewRouter(view, services, known, g.tunnel.RTT)
		if services != nil && !joining {
			router.conflicts.logChanges(said, g.log)
			said = router.conflicts
			routes, next := past.update(routesOf(view, services, router), time.Now())
			if next > 0 {
				forget.Reset(next)
			}
			router.known.Gone = past.destinations()
			g.xds.Publish(routes, known.Missing == "")
		}
		g.router.Store(router)
		if services != nil {
			g.forward.Retire(router.Serves)
			g.servicesKnown.Met()
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
		case <-viewPast:
		}
	}
}

// sameSet reports whether a and b are one published value, which never changes.
func sameSet(a, b []mesh.Service) bool {
	return b != nil && len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
