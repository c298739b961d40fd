package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// joinTime is how long a gateway that starts waits for the first answer from
// those it joins before it tells its sidecars what there is: until then it
// would call everything in other clusters absent, and unknown is not absent.
const joinTime = 3 * time.Second

// publish tells the others what changes: the data plane gets a new router, the
// federation this cluster's exports, the sidecars their routes.
func (g *Gateway) publish(ctx context.Context) error {
	waited := time.NewTimer(joinTime)
	defer waited.Stop()
	joining := len(g.cfg.Join) > 0
	var published []mesh.Service // what the federation was last given
	for {
		services, servicesPast := g.services.Snapshot()
		view, viewPast := g.federation.View()
		joining = joining && !slices.ContainsFunc(view.Origins, func(o federation.Origin) bool {
			return o.ID != view.Self && !o.Stale
		})
		known := services != nil && !joining // nil: not known yet
		router := NewRouter(view, services, known, g.tunnel.RTT)
		g.router.Store(router)
		if services != nil {
			g.forward.Retire(router.Serves)
		}
		if services != nil && !sameSet(services, published) {
			published = services
			g.federation.Publish(exportsOf(services, g.identity.ID().String()))
		}
		if known {
			g.xds.Publish(routesOf(view, services, router), true)
			g.servicesKnown()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-waited.C:
			joining = false
		case <-servicesPast:
		case <-viewPast:
		}
	}
}

// sameSet reports whether a and b are one published value, which never changes.
func sameSet(a, b []mesh.Service) bool {
	return b != nil && len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
