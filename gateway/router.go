package gateway

import (
	"fmt"
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
// many goroutines at a time. Load and random numbers come with the request, and
// round-trip times are asked for: they change all the time, and nothing else does.
type Router struct {
	self      mesh.ClusterName
	known     Knowledge
	local     map[mesh.ServiceName]*mesh.Service
	view      *federation.View
	rtt       func(mesh.GatewayID) time.Duration
	conflicts conflicts
}

// Knowledge says what a router may call absent: what it does not find does not exist
// when nothing is missing, and has not existed lately.
type Knowledge struct {
	Missing string                        // why not everything is known yet; empty: everything is
	Gone    map[mesh.Destination]struct{} // what was offered lately, and is not any more
	Proved  provers                       // who answered with identity lately, where nobody does any more
}

// NewRouter returns the router for what is known now. It keeps its arguments. rtt
// says the present smoothed round-trip time to a gateway, to many goroutines at a time.
func NewRouter(view *federation.View, local []mesh.Service, known Knowledge, rtt func(mesh.GatewayID) time.Duration) *Router {
	r := &Router{
		self:      view.Self.Cluster,
		known:     known,
		local:     make(map[mesh.ServiceName]*mesh.Service, len(local)),
		view:      view,
		rtt:       rtt,
		conflicts: conflictsOf(view, local, known.Proved),
	}
	for i := range local {
		r.local[local[i].Name] = &local[i]
	}
	return r
}

// Outbound returns who may serve a request of this cluster, best first: ready
// endpoints of this cluster, then gateways of the other clusters that have ready
// ones, the nearest cluster first and of equally near ones the less loaded. Of
// equally near clusters, as of endpoints, those come first that the caller does not
// hold.
func (r *Router) Outbound(req *forward.Request) ([]forward.Candidate, *connect.Refusal) {
	s := search{Router: r, req: req}
	all := s.ownEndpoints()
	all = append(all, order(s.otherClusters(), req)...)
	if len(all) == 0 {
		return nil, s.refusal()
	}
	return all, nil
}

// search is the search for who may serve one request of this cluster, and what
// it has found in the way.
type search struct {
	*Router
	req   *forward.Request
	found bool     // some cluster has the service
	port  bool     // some cluster has its port
	why   []string // per cluster, why it cannot serve
}

// ownEndpoints returns the endpoints of this cluster that may serve.
func (s *search) ownEndpoints() []forward.Candidate {
	dest := s.req.Destination
	svc, ok := s.local[dest.Service]
	if !ok || dest.Cluster != "" && dest.Cluster != s.self {
		return nil
	}
	s.found = true
	p, ok := svc.PortNumbered(dest.Port)
	if !ok {
		return nil
	}
	s.port = true
	all, reason := s.endpoints(p, s.req)
	if reason != "" {
		s.why = append(s.why, fmt.Sprintf("%s: %s", s.self, reason))
	}
	return all
}

// otherClusters returns the other clusters that can serve.
func (s *search) otherClusters() []offer {
	dest := s.req.Destination
	var offers []offer
	for _, x := range s.view.Exports(dest.Service) {
		if dest.Cluster != "" && dest.Cluster != x.Cluster {
			continue
		}
		s.found = true
		p, ok := x.Export.PortNumbered(dest.Port)
		if !ok {
			continue
		}
		s.port = true
		reason := ""
		conflict := s.conflicts.leftOut(dest, x.Cluster)
		switch {
		case conflict != "":
			reason = conflict
		case s.req.ExcludesCluster(x.Cluster):
			reason = "excluded by the caller"
		case len(x.Gateways) == 0:
			reason = "tunnel down"
		case p.Ready == 0:
			reason = "no ready endpoint"
		default:
			offers = append(offers, s.offerOf(&x, p, s.req))
			continue
		}
		s.why = append(s.why, fmt.Sprintf("%s: %s", x.Cluster, reason))
	}
	return offers
}

// refusal says why nobody was found.
func (s *search) refusal() *connect.Refusal {
	dest := s.req.Destination
	switch {
	case !s.port && s.known.Missing != "":
		return s.notYet(dest)
	case !s.port && s.wasOffered(dest):
		return s.lately(dest)
	case !s.found && dest.Cluster != "":
		return connect.Refuse(http.StatusNotFound, connect.DestinationNotFound,
			"no service %s in cluster %s: check the name, and that the cluster exports it", dest.Service, dest.Cluster)
	case !s.found:
		return connect.Refuse(http.StatusNotFound, connect.DestinationNotFound,
			"no service %s in any cluster: check the name, and that it is exported", dest.Service)
	case !s.port:
		return noPort(dest)
	}
	return connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable,
		"no reachable cluster for %s (%s)", dest.Service, strings.Join(s.why, "; "))
}

// Inbound returns which endpoints of this cluster may serve a request that came
// through a tunnel, the less loaded first. A request is never sent on to
// another cluster.
func (r *Router) Inbound(req *forward.Request) ([]forward.Candidate, *connect.Refusal) {
	dest := req.Destination
	if dest.Cluster != "" && dest.Cluster != r.self {
		return nil, connect.Refuse(http.StatusNotFound, connect.DestinationNotFound,
			"%s is not in cluster %s", dest.Host(), r.self)
	}
	svc, ok := r.local[dest.Service]
	if !ok && r.known.Missing != "" {
		return nil, r.notYet(dest)
	}
	if here := (mesh.Destination{Service: dest.Service, Port: dest.Port, Cluster: r.self}); r.wasOffered(here) {
		return nil, r.lately(here)
	}
	if !ok {
		return nil, connect.Refuse(http.StatusNotFound, connect.DestinationNotFound,
			"no service %s in cluster %s", dest.Service, r.self)
	}
	if !svc.Exported() {
		return nil, r.notExported(dest)
	}
	p, ok := svc.PortNumbered(dest.Port)
	if dest.Port == 0 { // the first one of those that other clusters know
		p = &svc.Ports[slices.IndexFunc(svc.Ports, func(p mesh.ServicePort) bool { return p.Exported })]
	}
	if !ok {
		return nil, noPort(dest)
	}
	if !p.Exported {
		return nil, r.notExported(dest)
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
		if p, ok := x.Export.PortNumbered(dest.Port); ok && p.Ready > 0 && len(x.Gateways) > 0 && r.conflicts.leftOut(dest, x.Cluster) == "" {
			return true
		}
	}
	return false
}

// MayBeReached reports whether another cluster had a ready endpoint of dest by its last
// word: a sibling may have a tunnel to it where this gateway has none.
func (r *Router) MayBeReached(dest mesh.Destination) bool {
	return slices.ContainsFunc(r.view.Exports(dest.Service), func(x federation.ClusterExport) bool {
		p, ok := x.Export.PortNumbered(dest.Port)
		return ok && p.Ready > 0 && (dest.Cluster == "" || dest.Cluster == x.Cluster) && r.conflicts.leftOut(dest, x.Cluster) == ""
	})
}

// Serves reports whether ep, an endpoint of this cluster, may serve dest now.
func (r *Router) Serves(dest mesh.Destination, ep *mesh.Endpoint) bool {
	svc, ok := r.local[dest.Service]
	if !ok {
		return false
	}
	p, ok := svc.PortNumbered(dest.Port)
	return ok && slices.ContainsFunc(p.Endpoints, func(e mesh.Endpoint) bool {
		return e.Ready && e.Instance == ep.Instance && e.Address == ep.Address
	})
}

// notYet refuses what may well exist.
func (r *Router) notYet(dest mesh.Destination) *connect.Refusal {
	return connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable,
		"this gateway of cluster %s does not know %s yet, since %s: try again", r.self, dest.Service, r.known.Missing)
}

func (r *Router) wasOffered(dest mesh.Destination) bool {
	_, gone := r.known.Gone[dest]
	return gone
}

// lately refuses what somebody offered a while ago: it may be about to come back.
func (r *Router) lately(dest mesh.Destination) *connect.Refusal {
	return connect.Refuse(http.StatusServiceUnavailable, connect.DestinationUnavailable,
		"nobody offers %s any more: its last instance has left", dest)
}

func (r *Router) notExported(dest mesh.Destination) *connect.Refusal {
	return connect.Refuse(http.StatusForbidden, connect.RequestDenied,
		"cluster %s does not export %s: write export: true in its Service resource, or add a ServiceExport beside it", r.self, dest)
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
	// Those to which the caller has no path yet come first.
	var fresh, held []*mesh.Endpoint
	excluded := 0
	for i := range p.Endpoints {
		ep := &p.Endpoints[i]
		name := connect.Instance{Cluster: r.self, Name: ep.Instance}
		switch {
		case !ep.Ready:
		case req.ExcludesInstance(name):
			excluded++
		case slices.Contains(req.Held, name):
			held = append(held, ep)
		default:
			fresh = append(fresh, ep)
		}
	}
	if len(fresh)+len(held) == 0 {
		if excluded > 0 {
			return nil, "every ready endpoint is excluded by the caller"
		}
		return nil, fmt.Sprintf("none of %d endpoints is ready", len(p.Endpoints))
	}
	all := make([]forward.Candidate, 0, min(len(fresh)+len(held), maxEndpoints))
	for _, group := range [][]*mesh.Endpoint{fresh, held} {
		for len(group) > 0 && len(all) < maxEndpoints {
			i := pick(len(group), req.Intn,
				func(i int) int { return int(max(group[i].Weight, 1)) },
				func(i int) int { return req.Load(group[i].Address) })
			all = append(all, forward.Candidate{Endpoint: *group[i], Port: p.Port, Protocol: p.Protocol})
			group = slices.Delete(group, i, i+1)
		}
	}
	return all, ""
}

// offer is another cluster that can serve a request.
type offer struct {
	gateways []forward.Candidate // best first, at most maxGatewaysPerCluster
	rtt      time.Duration       // to the nearest gateway that sees a ready endpoint
	paths    int                 // that this gateway has to it
	capacity int                 // at least 1
	held     bool                // the caller has paths to every ready instance
}

// offerOf orders the gateways of one cluster: those that themselves see a ready
// endpoint before the others, the nearest first, of equally near ones the less
// loaded of two random ones.
func (r *Router) offerOf(x *federation.ClusterExport, p *mesh.ExportPort, req *forward.Request) offer {
	o := offer{capacity: int(max(p.Capacity, 1)), held: heldOf(req, x.Cluster) >= int(p.Ready)}
	var seeing, blind []forward.Candidate
	for _, id := range x.Gateways {
		o.paths += req.Load(id.String())
		c := forward.Candidate{Gateway: id, RTT: r.rtt(id), Port: p.Port, Protocol: p.Protocol}
		if r.seesReady(id, x.Export.Service, p.Port) {
			seeing = append(seeing, c)
		} else {
			blind = append(blind, c)
		}
	}
	for _, group := range [][]forward.Candidate{seeing, blind} {
		for len(group) > 0 && len(o.gateways) < maxGatewaysPerCluster {
			i := nearest(len(group), req.Intn,
				func(i int) time.Duration { return group[i].RTT },
				func(int) bool { return false }, func(int) int { return 1 },
				func(i int) int { return req.Load(group[i].Key()) })
			o.gateways = append(o.gateways, group[i])
			group = slices.Delete(group, i, i+1)
		}
	}
	o.rtt = o.gateways[0].RTT
	return o
}

// heldOf returns how many instances of a cluster the caller has paths to.
func heldOf(req *forward.Request, c mesh.ClusterName) int {
	n := 0
	for _, i := range req.Held {
		if i.Cluster == c {
			n++
		}
	}
	return n
}

// order returns the gateways of the clusters, the nearest cluster first, of equally
// near ones one with an instance to which the caller has no path yet.
func order(offers []offer, req *forward.Request) []forward.Candidate {
	var all []forward.Candidate
	for len(offers) > 0 {
		i := nearest(len(offers), req.Intn,
			func(i int) time.Duration { return offers[i].rtt },
			func(i int) bool { return offers[i].held },
			func(i int) int { return offers[i].capacity },
			func(i int) int { return offers[i].paths })
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
// equally near and not held, if there is one, it picks by weight and load.
func nearest(n int, intn func(int) int, rtt func(int) time.Duration, held func(int) bool, weight, load func(int) int) int {
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
	if slices.ContainsFunc(near, func(i int) bool { return !held(i) }) {
		near = slices.DeleteFunc(near, held)
	}
	return near[pick(len(near), intn, func(i int) int { return weight(near[i]) }, func(i int) int { return load(near[i]) })]
}

// pick draws two of n by their weights, which are at least 1, and returns the one
// with less load for its weight. When both are idle it is the first, so that one
// request after the other meets the weights, too.
func pick(n int, intn func(int) int, weight, load func(int) int) int {
	i := draw(n, -1, intn, weight)
	if n == 1 {
		return i
	}
	j := draw(n, i, intn, weight)
	li, lj := load(i), load(j)
	if li+lj > 0 && (lj+1)*weight(i) < (li+1)*weight(j) {
		return j
	}
	return i
}

// draw returns a random one of n other than skip, by weight.
func draw(n, skip int, intn func(int) int, weight func(int) int) int {
	sum := 0
	for i := range n {
		if i != skip {
			sum += weight(i)
		}
	}
	last, r := 0, intn(sum)
	for i := range n {
		if i == skip {
			continue
		}
		if last = i; r < weight(i) {
			break
		}
		r -= weight(i)
	}
	return last
}

// seesReady reports whether the gateway's own catalog has a ready endpoint.
func (r *Router) seesReady(id mesh.GatewayID, service mesh.ServiceName, port uint16) bool {
	i, ok := slices.BinarySearchFunc(r.view.Origins, id, func(o federation.Origin, id mesh.GatewayID) int {
		return o.ID.Compare(id)
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
