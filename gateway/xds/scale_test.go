package xds

import (
	"context"
	"fmt"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	gcp "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

const (
	subscribers   = 1000
	namesEach     = 100
	namesOverall  = 2_000
	subscribersOf = subscribers * namesEach / namesOverall // of each name
)

// crowd is a cache with 1,000 delta subscribers of 100 names each, without the
// gRPC around it.
type crowd struct {
	cache  *cache
	routes []*mesh.Route
	subs   []stream.Subscription
	out    []chan gcp.DeltaResponse
	open   []*adsStream
}

func newCrowd(tb testing.TB) *crowd {
	tb.Helper()
	srv := &Server{memory: newScopeMemory("", nil, nil)}
	srv.cache = emptyCache(tb)
	c := &crowd{cache: srv.cache}
	for i := range namesOverall {
		c.routes = append(c.routes, routeTo(fmt.Sprint("s", i), 3))
	}
	if err := c.cache.replace(c.routes, true); err != nil {
		tb.Fatal(err)
	}
	for i := range subscribers {
		names := make([]string, namesEach)
		for j := range names {
			names[j] = service(fmt.Sprint("s", (i*namesEach+j)%namesOverall)).String()
		}
		c.subs = append(c.subs, stream.NewDeltaSubscription(names, nil, nil, false))
		c.out = append(c.out, make(chan gcp.DeltaResponse, 4))
		c.open = append(c.open, &adsStream{server: srv, identity: fmt.Sprint("id", i), end: context.CancelFunc(func() {}), names: map[string]int{}})
		if got := c.receive(tb, i); len(got.Resources) != namesEach { // the first answer: all of them
			tb.Fatalf("first answer has %d resources", len(got.Resources))
		}
	}
	return c
}

// emptyCache is a cache that remembers nothing of anybody.
func emptyCache(tb testing.TB) *cache {
	tb.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return newCache(func(string) []string { return nil }, newHosts(nil, nil), m)
}

// watch opens subscriber i's next watch, as the engine does after an ACK.
func (c *crowd) watch(tb testing.TB, i int) {
	w := &watch{stream: c.open[i], kind: endpoints, sub: c.subs[i], send: func(told change) bool {
		c.out[i] <- &gcp.DeltaPassthroughResponse{
			NextVersionMap:         told.known,
			DeltaDiscoveryResponse: &discoveryv3.DeltaDiscoveryResponse{Resources: told.send, RemovedResources: told.removed},
		}
		return true
	}}
	c.cache.open(w)
}

// receive takes subscriber i's next answer and opens its next watch.
func (c *crowd) receive(tb testing.TB, i int) *discoveryv3.DeltaDiscoveryResponse {
	if len(c.out[i]) == 0 {
		c.watch(tb, i)
	}
	resp := <-c.out[i]
	c.subs[i].SetReturnedResources(resp.GetReturnedResources())
	c.watch(tb, i)
	d, err := resp.GetDeltaDiscoveryResponse()
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func TestOneChangeAmongManyNamesReachesOnlyItsSubscribers(t *testing.T) {
	c := newCrowd(t)
	encoded := testutil.ToFloat64(c.cache.metrics.encoded)
	routes := append([]*mesh.Route(nil), c.routes...)
	routes[1234] = routeTo("s1234", 4)
	if err := c.cache.replace(routes, true); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(c.cache.metrics.encoded) - encoded; n != 2 {
		t.Errorf("%v resources were encoded, want the Cluster and the endpoints of one", n)
	}
	var shared *discoveryv3.Resource
	told := 0
	for i := range c.out {
		if len(c.out[i]) == 0 {
			continue
		}
		told++
		resp := c.receive(t, i)
		if len(resp.Resources) != 1 || resp.Resources[0].Name != service("s1234").String() {
			t.Fatalf("subscriber %d was told %v", i, resp)
		}
		if shared == nil {
			shared = resp.Resources[0]
		}
		if resp.Resources[0] != shared {
			t.Error("the resource was copied")
		}
	}
	if told != subscribersOf {
		t.Errorf("%d subscribers were told, want %d", told, subscribersOf)
	}
	if got := c.cache.table[endpoints][service("s1234").String()]; got != shared || got.Resource.TypeUrl != xds.EndpointType {
		t.Error("not the table's own resource")
	}
}

func TestAnyChangeOfARouteIsEncodedAnew(t *testing.T) {
	c := emptyCache(t)
	orders := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}}
	versions := map[string]bool{}
	for _, ports := range [][]mesh.RoutePort{nil, {{Number: 80, Protocol: mesh.HTTP}}, {{Number: 80, Protocol: mesh.TCP}}} {
		if err := c.replace([]*mesh.Route{{Destination: orders, Protocol: mesh.TCP, Ports: ports}}, true); err != nil {
			t.Fatal(err)
		}
		versions[c.table[clusters][orders.String()].Version] = true
	}
	if len(versions) != 3 {
		t.Errorf("three different lists of ports are %d versions", len(versions))
	}
}

// BenchmarkOneChangeAmongManyNames measures a publication in which 1 of
// 2,000 routes is new, with 1,000 subscribers of 100 names each, up to the
// responses of the 50 that subscribe to it.
func BenchmarkOneChangeAmongManyNames(b *testing.B) {
	c := newCrowd(b)
	routes := append([]*mesh.Route(nil), c.routes...)
	for n := 0; b.Loop(); n++ {
		at := n % namesOverall
		routes[at] = routeTo(fmt.Sprint("s", at), 1+(n/namesOverall+n)%2)
		if err := c.cache.replace(routes, true); err != nil {
			b.Fatal(err)
		}
		for i := range c.out {
			for len(c.out[i]) > 0 {
				c.receive(b, i)
			}
		}
	}
}
