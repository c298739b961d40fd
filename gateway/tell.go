package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
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

// teller tells the gateway's parts what changes: the data plane gets a new router, the
// federation this cluster's exports, the sidecars their routes and, where they serve,
// who may call. Of what it has not heard of yet it says nothing: a gateway that has met
// none of those it joins, or none since its restart, knows its own cluster, and cannot
// say what others do not have. The goroutine of run has all of it.
type teller struct {
	g        *Gateway
	joining  bool // nobody has answered, and joinEnds is not past
	joinEnds time.Time
	met      bool           // a gateway that it joins, or there is none to join
	exported []mesh.Service // what the federation was last given
	past     departed
	proved   proven
	said     conflicts // what the log was last told
}

// heard is what the gateway has heard, at one moment. Nil: not known yet.
type heard struct {
	services  []mesh.Service
	resources []discovery.Described
	policies  []policy.Policy
	routes    *traffic.Set // of files and of the API server
	view      *federation.View
}

// tellAll tells what changes until ctx ends. It returns nil.
func (g *Gateway) tellAll(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-g.federation.Opened():
	}
	joins := slices.ContainsFunc(g.cfg.Join, func(a string) bool { return a != g.cfg.Advertise })
	t := teller{g: g, joining: joins, joinEnds: time.Now().Add(joinTime), met: !joins} // met: who is alone, or first, or joins itself
	for {
		h, past := t.hear()
		again := t.tell(&h, time.Now())
		g.met.Store(t.met)
		if !state.AwaitFor(ctx, again, past[:]...) {
			return nil
		}
	}
}

// hear returns what is known now, and channels of which one closes when that is past.
func (t *teller) hear() (h heard, past [6]<-chan struct{}) {
	h.services, past[0] = t.g.services.Snapshot()
	h.resources, past[1] = t.g.resources.Snapshot()
	h.policies, past[2] = t.g.resources.Policies()
	h.view, past[3] = t.g.federation.View()
	h.routes, past[4] = t.g.files.Routes()
	if t.g.kubernetes == nil || h.routes == nil {
		return h, past
	}
	files, api := h.routes, (*traffic.Set)(nil)
	if api, past[5] = t.g.kubernetes.routes.Routes(); api == nil {
		h.routes = nil
		return h, past
	}
	h.routes = &traffic.Set{
		Routes: append(files.Routes[:len(files.Routes):len(files.Routes)], api.Routes...),
		Grants: append(files.Grants[:len(files.Grants):len(files.Grants)], api.Grants...),
	}
	return h, past
}

// tell tells what was heard, and returns after which time it must be told again, be nothing
// heard until then.
func (t *teller) tell(h *heard, now time.Time) (again time.Duration) {
	t.authorize(h)
	known, unproved := t.knowledge(h, now)
	again = state.Forever
	if t.joining {
		again = t.joinEnds.Sub(now)
	}
	router := NewRouter(h.view, h.services, known, t.g.tunnel.RTT)
	if h.services != nil && h.routes != nil && !t.joining {
		router.conflicts.logChanges(t.said, t.g.log)
		t.said = router.conflicts
		routes, next := t.past.update(routesOf(h.view, h.services, router), now)
		for _, forget := range []time.Duration{unproved, next} {
			if forget > 0 {
				again = min(again, forget)
			}
		}
		router.known.Gone = t.past.destinations()
		t.bind(applyRules(routes, h.services, h.routes, h.view.Self.Cluster))
		t.g.xds.SetRoutes(routes, known.Missing == "")
	}
	t.g.router.Store(router)
	if h.services == nil {
		return again
	}
	t.g.forward.Retire(router.Serves)
	t.g.servicesKnown.Met()
	if t.g.imports != nil {
		t.g.imports.SetOffers(offersOf(h.view, h.services, t.g.identity.Self()), known.Missing == "")
	}
	if !sameSet(h.services, t.exported) {
		t.exported = h.services
		t.g.federation.Own().Publish(exportsOf(h.services, t.g.identity.ID().String()))
	}
	return again
}

// knowledge says how much of what there is h can be, and when the first port is
// forgotten of those that nobody proves any more; 0: there is none.
func (t *teller) knowledge(h *heard, now time.Time) (known Knowledge, unproved time.Duration) {
	t.met = t.met || h.view.Met()
	t.joining = t.joining && now.Before(t.joinEnds) && !slices.ContainsFunc(h.view.Origins, func(o federation.Origin) bool {
		return o.ID != h.view.Self && !o.Stale
	})
	known.Proved, unproved = t.proved.update(proversOf(h.view, h.services), now)
	switch {
	case h.services == nil || t.joining:
		known.Missing = justStarted
	case !t.met:
		known.Missing = metNobody
	case h.view.Awaiting:
		known.Missing = metNoneYet
	}
	return known, unproved
}

// authorize puts in force who may call, once all of what decides it is known. Whoever
// may not any more is cut off.
func (t *teller) authorize(h *heard) {
	was := t.g.authorizers.Load()
	if h.services == nil || h.policies == nil || was.madeOf(h.services, h.resources, h.policies) {
		return
	}
	id := t.g.identity.ID()
	next, err := authorizersOf(was, h.services, h.resources, h.policies, home{id.TrustDomain, id.Cluster})
	if err != nil {
		t.g.log.Error("who may call is not changed", "err", err)
		return
	}
	t.g.authorizers.Store(next)
	t.g.xds.SetPolicies(next.told())
	if !next.decidesAs(was) {
		t.g.forward.JudgeCallers()
	}
}

// bind takes note of what became of the routes that are written.
func (t *teller) bind(b *traffic.Bindings) {
	t.g.bindings.Store(b)
	if t.g.kubernetes != nil {
		t.g.kubernetes.routes.SetBindings(b)
	}
}

// sameSet reports whether a and b are one published value, which never changes.
func sameSet[T any](a, b []T) bool {
	return b != nil && len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
