package sidecar

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
)

const (
	// maxDirect bounds the addresses, each with a port, that are captured beside the virtual
	// ones: what captures them takes four times as many.
	maxDirect = 2048
	// sayAgain is how often all of them are said again: what captures them may have been put
	// in place anew.
	sayAgain = 30 * time.Second
	// directWait bounds how long a connection to an address of a variable waits until a gateway
	// has said whose it is: afterwards it goes there past the mesh, as a name would lead it.
	directWait = time.Second
)

// directAddresses has connections to addresses of Kubernetes come here that programs of the pod
// dial without a name of the mesh: those of the pods that serve what this sidecar has routes to, of
// which one instance is meant, and ClusterIPs. Which they are the routes say, that is, services
// that the pod has asked for by name, those that it serves itself when they are headless, since such
// programs know each other by address, and those that are called by the variables that the
// kubelet has set (DB_SERVICE_HOST). Its methods may be called concurrently.
type directAddresses struct {
	routes    *routes.Store
	subscribe func(...mesh.Destination)
	cluster   mesh.ClusterName
	variables map[netip.AddrPort]mesh.Destination // ClusterIPs of variables, with Port 0; never changed
	capture   func([]netip.AddrPort) error
	release   func([]netip.AddrPort) error
	own       func() []netip.Addr // of the pod, which reaches itself without the mesh
	log       *slog.Logger

	mu         sync.Mutex
	said       map[netip.AddrPort]struct{}
	subscribed map[mesh.Destination]struct{} // instances of headless services
	given      map[mesh.Destination]struct{} // services whose own addresses programs were given, and may keep
	fault      string                        // what was logged last
}

func (s *Sidecar) newDirectAddresses(environment []string) *directAddresses {
	id := s.identity.ID()
	traffic := PodTraffic()
	return &directAddresses{
		routes: s.routes, subscribe: s.ads.Subscribe, cluster: id.Cluster, log: s.log,
		variables: clusterIPs(environment, id.Namespace, id.Cluster),
		capture:   func(to []netip.AddrPort) error { return interception.CaptureAlso(traffic, to) },
		release:   func(to []netip.AddrPort) error { return interception.ReleaseAlso(traffic, to) },
		own:       ownAddresses,
		said:      map[netip.AddrPort]struct{}{}, subscribed: map[mesh.Destination]struct{}{}, given: map[mesh.Destination]struct{}{},
	}
}

// run keeps captured what routes say, until ctx ends.
func (d *directAddresses) run(ctx context.Context) {
	again := time.NewTicker(sayAgain)
	defer again.Stop()
	for all := true; ; {
		_, past := d.routes.Snapshot()
		d.follow(all)
		select {
		case <-past:
			all = false
		case <-again.C:
			all = true
		case <-ctx.Done():
			return
		}
	}
}

// inMesh says whether a service is in the mesh for programs that ask for it by its name in
// Kubernetes. Those that are not, or not by that name, lead to addresses that are captured by then.
func (d *directAddresses) inMesh(ctx context.Context, service mesh.Destination) (bool, error) {
	r, err := d.routes.Wait(ctx, service)
	if err != nil {
		return false, err
	}
	if !r.Outside && !r.Headless {
		return true, nil
	}
	if r.Headless {
		for _, p := range r.Ports {
			port := service
			port.Port = p.Number
			_, _ = d.routes.Wait(ctx, port) // as many as come in time
		}
	}
	d.follow(false)
	if r.Headless || len(r.Addresses) > 0 {
		d.mu.Lock()
		d.given[service] = struct{}{}
		d.mu.Unlock()
	}
	return false, nil
}

// keeps reports whether a service stays in scope although nobody asks for it by name any more.
func (d *directAddresses) keeps(service mesh.Destination) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.given[service]
	return ok
}

// serve says which services the pod serves itself.
func (d *directAddresses) serve(services []mesh.ServiceName) {
	for _, name := range services {
		d.subscribe(mesh.Destination{Service: name, Cluster: d.cluster})
	}
}

// leads returns whom a captured address leads to.
func (d *directAddresses) leads(ctx context.Context, to netip.AddrPort) (routes.Direct, bool) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if meant, ok := d.routes.Load().Direct(to); ok {
		return meant, true
	}
	service, ok := d.variables[to]
	if !ok {
		return routes.Direct{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, directWait)
	defer cancel()
	if _, err := d.routes.Wait(ctx, service); err != nil {
		d.log.Debug("nobody says whose address it is: the connection goes there past the mesh", "service", service.Host(), "addr", to.String(), "err", err)
	}
	meant, ok := d.routes.Load().Direct(to)
	return meant, ok
}

// follow says what has changed of what is captured, or all of it.
func (d *directAddresses) follow(all bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	table := d.routes.Load()
	d.subscribeInstancesLocked(table)
	want, left := d.wantedLocked(table)
	var more, less []netip.AddrPort
	for a := range want {
		if _, ok := d.said[a]; !ok || all {
			more = append(more, a)
		}
	}
	for a := range d.said {
		if _, ok := want[a]; !ok {
			less = append(less, a)
		}
	}
	err := d.capture(more)
	if err == nil {
		err = d.release(less)
	}
	switch {
	case err != nil:
		d.faultLocked(err)
		return // all of it is said again
	case left > 0:
		d.faultLocked(errTooManyDirect)
	default:
		d.fault = ""
	}
	d.said = want
}

var errTooManyDirect = errors.New("more addresses than are captured: calls to some pods' own addresses go past the mesh")

func (d *directAddresses) faultLocked(err error) {
	if d.fault != err.Error() {
		d.fault = err.Error()
		d.log.Warn("calls to pods' own addresses and ClusterIPs may go past the mesh", "err", err)
	}
}

// wantedLocked returns what is to be captured, and how many there is no room for: of those that are
// captured none.
func (d *directAddresses) wantedLocked(table *routes.Table) (want map[netip.AddrPort]struct{}, left int) {
	own := d.own()
	want = make(map[netip.AddrPort]struct{}, len(d.said))
	add := func(a netip.AddrPort, said bool) {
		if _, was := d.said[a]; was != said || slices.Contains(own, a.Addr()) {
			return
		}
		if len(want) >= maxDirect {
			left++
			return
		}
		want[a] = struct{}{}
	}
	for _, said := range []bool{true, false} {
		for a, service := range d.variables {
			if _, known := table.Lookup(service); !known && !table.Absent(service) {
				add(a, said)
			}
		}
		for a := range table.DirectAddresses() {
			add(a, said)
		}
	}
	return want, left
}

// subscribeInstancesLocked asks for the instances of headless services.
func (d *directAddresses) subscribeInstancesLocked(table *routes.Table) {
	for _, r := range table.Headless() {
		for _, p := range r.Ports {
			to := r.Destination
			to.Port = p.Number
			if _, ok := d.subscribed[to]; !ok && r.Destination.Cluster == d.cluster {
				d.subscribed[to] = struct{}{}
				d.subscribe(to)
			}
		}
	}
}

// ownAddresses are those of this pod.
func ownAddresses() (own []netip.Addr) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				own = append(own, addr.Unmap())
			}
		}
	}
	return own
}
