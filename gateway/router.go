package gateway

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What the router offers to try, at most. Every one costs a dial or a hedge, and
// a client that waits for more is better served by its own retry.
const (
	maxEndpoints          = 3 // of this cluster
	maxGatewaysPerCluster = 2 // of each other cluster
	maxRemote             = 6 // gateways of other clusters together
)

// Two round-trip times are equal when they differ by less than a tenth of the
// lower one or by less than rttSlack: what a tunnel's smoothed RTT jitters by.
const (
	rttTolerance = 10 // the lower one divided by this
	rttSlack     = time.Millisecond
)

// Router decides who serves a path. It is immutable and pure: one is made from
// each view of the mesh and each set of this cluster's services, and asked by
// many goroutines at a time.
type Router struct {
	self    mesh.ClusterName
	settled bool // what is not here does not exist
	local   map[mesh.ServiceName]*mesh.Service
	view    *federation.View
	rtt     map[mesh.GatewayID]time.Duration
	intn    func(n int) int // random number below n
}

// NewRouter returns the router for what is known now. It keeps view and local.
// Until settled, what is not found is unavailable rather than unknown.
func NewRouter(view *federation.View, local []mesh.Service, settled bool) *Router {
	r := &Router{
		self:    view.Self.Cluster,
		settled: settled,
		local:   make(map[mesh.ServiceName]*mesh.Service, len(local)),
		view:    view,
		rtt:     make(map[mesh.GatewayID]time.Duration, len(view.Gateways)),
		intn:    rand.IntN,
	}
	for i := range local {
		r.local[local[i].Name] = &local[i]
	}
	for _, g := range view.Gateways {
		r.rtt[g.ID] = g.Tunnel.RTT
	}
	return r
}

// Egress returns who may serve a request of this cluster, best first: ready
// endpoints of this cluster, then gateways of the other clusters that have ready
// ones, the nearest cluster first and of equally near ones the less loaded.
func (r *Router) Egress(req *forward.Request) ([]forward.Candidate, *connect.Refusal) {
	var (
		dest  = req.Destination
		why   []string // per cluster, why it cannot serve
		known bool     // some cluster has the service
		port  bool     // some cluster has its port
		all   []forward.Candidate
	)
	if svc, ok := r.local[dest.Service]; ok && (dest.Cluster == "" || dest.Cluster == r.self) {
		known = true
		if p, ok := svc.PortNumbered(dest.Port); ok {
			port = true
			eps, reason := r.endpoints(p, req)
			all = append(all, eps...)
			if reason != "" {
				why = append(why, fmt.Sprintf("%s: %s", r.self, reason))
			}
		}
	}
	var remote []offer
	for _, x := range r.view.Exports(dest.Service) {
		if dest.Cluster != "" && dest.Cluster != x.Cluster {
			continue
		}
		known = true
		p, ok := x.Export.PortNumbered(dest.Port)
		if !ok {
			continue
		}
		port = true
		reason := ""
		switch {
		case req.ExcludesCluster(x.Cluster):
			reason = "excluded by the caller"
		case len(x.Gateways) == 0:
			reason = "tunnel down"
		case p.Ready == 0:
			reason = "no ready endpoint"
		default:
			remote = append(remote, r.offerOf(&x, p, req))
			continue
		}
		why = append(why, fmt.Sprintf("%s: %s", x.Cluster, reason))
	}
	all = append(all, r.order(remote)...)
	switch {
	case len(all) > 0:
		return all, nil
	case !port && !r.settled:
		return nil, r.notYet(dest)
	case !known && dest.Cluster != "":
		return nil, connect.Refuse(http.StatusNotFound, connect.DestinationNotFound,
			"no service %s in cluster %s: check the name, and that the cluster exports it", dest.Service, dest.Cluster)
	case !known:
		return nil, connect.Refuse(http.StatusNotFound, connect.DestinationNotFound,
			"no service %s in any cluster: check the name, and that it is exported", dest.Service)
	case !port:
		return nil, noPort(dest)
	}
	return nil, connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable,
		"no reachable cluster for %s (%s)", dest.Service, strings.Join(why, "; "))
}

// Ingress returns which endpoints of this cluster may serve a request that came
// through a tunnel, the less loaded first. A request is never sent on to
// another cluster.
func (r *Router) Ingress(req *forward.Request) ([]forward.Candidate, *connect.Refusal) {
	dest := req.Destination
	if dest.Cluster != "" && dest.Cluster != r.self {
		return nil, connect.Refuse(http.StatusNotFound, connect.DestinationNotFound,
			"%s is not in cluster %s", dest.Host(), r.self)
	}
	svc, ok := r.local[dest.Service]
	if !ok && !r.settled {
		return nil, r.notYet(dest)
	}
	if !ok {
		return nil, connect.Refuse(http.StatusNotFound, connect.DestinationNotFound,
			"no service %s in cluster %s", dest.Service, r.self)
	}
	if !svc.Export {
		return nil, connect.Refuse(http.StatusForbidden, connect.RequestDenied,
			"cluster %s does not export %s: add a ServiceExport beside it", r.self, dest.Service)
	}
	p, ok := svc.PortNumbered(dest.Port)
	if !ok {
		return nil, noPort(dest)
	}
	eps, reason := r.endpoints(p, req)
	if len(eps) == 0 {
		return nil, connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable,
			"no endpoint for %s in cluster %s: %s", dest.Service, r.self, reason)
	}
	return eps, nil
}

// Reaches reports whether another cluster can serve dest now: this gateway has
// a live tunnel to it and it has a ready endpoint.
func (r *Router) Reaches(dest mesh.Destination) bool {
	for _, x := range r.view.Exports(dest.Service) {
		if dest.Cluster != "" && dest.Cluster != x.Cluster {
			continue
		}
		if p, ok := x.Export.PortNumbered(dest.Port); ok && p.Ready > 0 && len(x.Gateways) > 0 {
			return true
		}
	}
	return false
}

// notYet refuses what may well exist: this gateway has just started.
func (r *Router) notYet(dest mesh.Destination) *connect.Refusal {
	return connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable,
		"this gateway of cluster %s has just started and does not know %s yet: try again", r.self, dest.Service)
}

func noPort(dest mesh.Destination) *connect.Refusal {
	return connect.Refuse(http.StatusNotFound, connect.DestinationNotFound,
		"%s has no port %d", dest.Service, dest.Port)
}

// endpoints returns the endpoints of p that may serve, the better of two random
// ones first, or why there is none.
func (r *Router) endpoints(p *mesh.ServicePort, req *forward.Request) ([]forward.Candidate, string) {
	if req.ExcludesCluster(r.self) {
		return nil, "excluded by the caller"
	}
	var ready []*mesh.Endpoint
	excluded := 0
	for i := range p.Endpoints {
		ep := &p.Endpoints[i]
		switch {
		case !ep.Ready:
		case req.ExcludesInstance(connect.Instance{Cluster: r.self, Name: ep.Instance}):
			excluded++
		default:
			ready = append(ready, ep)
		}
	}
	if len(ready) == 0 {
		if excluded > 0 {
			return nil, "every ready endpoint is excluded by the caller"
		}
		return nil, fmt.Sprintf("none of %d endpoints is ready", len(p.Endpoints))
	}
	all := make([]forward.Candidate, 0, min(len(ready), maxEndpoints))
	for len(ready) > 0 && len(all) < maxEndpoints {
		i := r.pick(len(ready), func(i int) float64 {
			return float64(loadOf(req, ready[i].Address)+1) / float64(max(ready[i].Weight, 1))
		})
		all = append(all, forward.Candidate{Endpoint: *ready[i], Port: p.Port, Protocol: p.Protocol})
		ready = slices.Delete(ready, i, i+1)
	}
	return all, ""
}

// offer is another cluster that can serve a request.
type offer struct {
	gateways []forward.Candidate // best first, at most maxGatewaysPerCluster
	rtt      time.Duration       // to the nearest gateway that sees a ready endpoint
	load     float64             // paths per capacity
}

// offerOf orders the gateways of one cluster: those that themselves see a ready
// endpoint before the others, the nearest first, of equally near ones the less
// loaded of two random ones.
func (r *Router) offerOf(x *federation.ClusterExport, p *mesh.ExportPort, req *forward.Request) offer {
	var o offer
	paths := 0
	var seeing, blind []mesh.GatewayID
	for _, id := range x.Gateways {
		paths += loadOf(req, id.String())
		if r.seesReady(id, x.Export.Service, p.Port) {
			seeing = append(seeing, id)
		} else {
			blind = append(blind, id)
		}
	}
	o.load = float64(paths+1) / float64(max(p.Capacity, 1))
	for _, group := range [][]mesh.GatewayID{seeing, blind} {
		for len(group) > 0 && len(o.gateways) < maxGatewaysPerCluster {
			i := r.nearest(len(group),
				func(i int) time.Duration { return r.rtt[group[i]] },
				func(i int) float64 { return float64(loadOf(req, group[i].String())) })
			o.gateways = append(o.gateways, forward.Candidate{
				Gateway: group[i], RTT: r.rtt[group[i]], Port: p.Port, Protocol: p.Protocol,
			})
			group = slices.Delete(group, i, i+1)
		}
	}
	o.rtt = o.gateways[0].RTT
	return o
}

// order returns the gateways of the clusters, the nearest cluster first.
func (r *Router) order(offers []offer) []forward.Candidate {
	var all []forward.Candidate
	for len(offers) > 0 {
		i := r.nearest(len(offers),
			func(i int) time.Duration { return offers[i].rtt },
			func(i int) float64 { return offers[i].load })
		for _, c := range offers[i].gateways {
			if len(all) < maxRemote {
				all = append(all, c)
			}
		}
		offers = slices.Delete(offers, i, i+1)
	}
	return all
}

// nearest returns which of n has the lowest round-trip time; of those that are
// equally near, the better of two random ones.
func (r *Router) nearest(n int, rtt func(int) time.Duration, load func(int) float64) int {
	best := rtt(0)
	for i := 1; i < n; i++ {
		best = min(best, rtt(i))
	}
	limit := best + max(best/rttTolerance, rttSlack)
	near := make([]int, 0, n)
	for i := range n {
		if rtt(i) <= limit {
			near = append(near, i)
		}
	}
	return near[r.pick(len(near), func(i int) float64 { return load(near[i]) })]
}

// pick returns the less loaded of two random ones of n.
func (r *Router) pick(n int, load func(int) float64) int {
	if n == 1 {
		return 0
	}
	i, j := r.intn(n), r.intn(n-1)
	if j >= i {
		j++
	}
	if load(j) < load(i) {
		return j
	}
	return i
}

// seesReady reports whether the gateway's own catalog has a ready endpoint.
func (r *Router) seesReady(id mesh.GatewayID, service mesh.ServiceName, port uint16) bool {
	i, ok := slices.BinarySearchFunc(r.view.Origins, id, func(o federation.Origin, id mesh.GatewayID) int {
		return cmp.Or(cmp.Compare(o.ID.Cluster, id.Cluster), cmp.Compare(o.ID.Name, id.Name))
	})
	if !ok {
		return false
	}
	records := r.view.Origins[i].Records
	j, ok := slices.BinarySearchFunc(records, service, func(e mesh.Export, s mesh.ServiceName) int {
		return e.Service.Compare(s)
	})
	if !ok {
		return false
	}
	p, ok := records[j].PortNumbered(port)
	return ok && p.Ready > 0
}

// loadOf asks how many paths run to key; a request that cannot say counts none.
func loadOf(req *forward.Request, key string) int {
	if req.Load == nil {
		return 0
	}
	return req.Load(key)
}
