package xds

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

func clusterName(b []byte) (string, error) {
	c := &clusterv3.Cluster{}
	err := proto.Unmarshal(b, c)
	return c.GetName(), err
}

// picky is a client that refuses every response with a resource that it cannot use,
// and keeps what the others have, as Envoy does.
type picky struct {
	*client
	refuses func(name, version string) bool
	holds   map[string]string
	refused int
}

func (c *picky) take(resp *discoveryv3.DeltaDiscoveryResponse) {
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.TypeUrl, ResponseNonce: resp.Nonce}
	if slices.ContainsFunc(resp.Resources, func(r *discoveryv3.Resource) bool { return c.refuses(r.Name, r.Version) }) {
		c.refused++
		req.ErrorDetail = &statusv3.Status{Message: "cannot use it"}
	} else {
		for _, r := range resp.Resources {
			c.holds[r.Name] = r.Version
		}
	}
	c.send(req)
}

// until takes responses until the client holds so many resources.
func (c *picky) until(n int) {
	c.t.Helper()
	for len(c.holds) < n {
		select {
		case resp := <-c.inbox:
			c.take(resp)
		case <-time.After(patience):
			c.t.Fatalf("holds %v after %d refusals", c.holds, c.refused)
		}
	}
}

// settle takes what else comes, until the answer to a further question does.
func (c *picky) settle() {
	c.t.Helper()
	const nobody = "nobody-asked-before"
	c.subscribe(nobody)
	for {
		select {
		case resp := <-c.inbox:
			c.take(resp)
			if slices.Contains(resp.RemovedResources, service(nobody).String()) {
				return
			}
		case <-time.After(patience):
			c.t.Fatal("no answer")
		}
	}
}

// untilWithheld waits until so many resources are counted as withheld.
func (g *gateway) untilWithheld(n float64) {
	g.t.Helper()
	for end := time.Now().Add(patience); testutil.ToFloat64(g.metrics.withheld) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			g.t.Fatalf("%v resources are withheld, want %v", testutil.ToFloat64(g.metrics.withheld), n)
		}
	}
}

func TestOneBadResourceIsLeftOutAndTheOthersArrive(t *testing.T) {
	names := []string{"a", "b", "bad", "c", "d", "e"}
	routes := map[string]*mesh.Route{}
	all := func() (rs []*mesh.Route) {
		for _, n := range names {
			rs = append(rs, routes[n])
		}
		return rs
	}
	for _, n := range names {
		routes[n] = routeTo(n, 1)
	}
	g := start(t, identitytest.New(t, "mesh.example"), "", all()...)
	badName := service("bad").String()
	refused := map[string]bool{}
	c := &picky{client: g.dial("web"), holds: map[string]string{}}
	c.refuses = func(name, version string) bool {
		if name != badName || len(refused) > 1 {
			return false
		}
		refused[version] = true
		return true
	}
	c.subscribe(names...)
	c.until(len(names) - 1)
	c.settle()
	for end := time.Now().Add(patience); testutil.ToFloat64(g.metrics.withheld) != 1; c.settle() {
		if time.Now().After(end) {
			t.Fatalf("%v resources are withheld, want the bad one", testutil.ToFloat64(g.metrics.withheld))
		}
	}
	before := c.refused
	routes["a"], routes["d"] = routeTo("a", 2), routeTo("d", 2)
	g.publish(all()...)
	held := c.holds[service("a").String()]
	for c.holds[service("a").String()] == held {
		c.settle()
	}
	if c.refused != before {
		t.Errorf("innocent changes came with the bad resource: %d more refusals", c.refused-before)
	}

	routes["bad"] = routeTo("bad", 2) // still bad
	g.publish(all()...)
	for c.refused == before {
		c.settle()
	}
	routes["bad"], routes["b"] = routeTo("bad", 3), routeTo("b", 3) // and mended
	g.publish(all()...)
	c.until(len(names))
	c.settle()
	g.untilWithheld(0)
}

func TestWhatIsLeftOutIsCountedNoMoreWhenItsStreamEnds(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("bad", 1))
	c := &picky{client: g.dial("web"), holds: map[string]string{}, refuses: func(string, string) bool { return true }}
	c.subscribe("bad")
	c.settle()
	g.untilWithheld(1)
	c.close()
	g.untilWithheld(0)
}

// TestOneBadResourceIsLeftOutOfTheStateOfTheWorld: there a response names everything,
// and a Cluster that it leaves out is taken away.
func TestOneBadResourceIsLeftOutOfTheStateOfTheWorld(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("a", 1), routeTo("bad", 1), routeTo("c", 1))
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(g.connect(g.mesh.Workload("east", "shop", "web"))).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(req *discoveryv3.DiscoveryRequest) {
		t.Helper()
		req.TypeUrl, req.ResourceNames = xds.ClusterType, resourceNames([]string{"a", "bad", "c"})
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	holds, version := []string{}, ""
	bad := true
	next := func() {
		t.Helper()
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range resp.Resources {
			route, err := clusterName(r.GetValue())
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, route)
		}
		slices.Sort(names)
		req := &discoveryv3.DiscoveryRequest{ResponseNonce: resp.Nonce, VersionInfo: resp.VersionInfo}
		if bad && slices.Contains(names, service("bad").String()) {
			req.VersionInfo, req.ErrorDetail = version, &statusv3.Status{Message: "cannot use it"}
		} else {
			holds, version = names, resp.VersionInfo
		}
		send(req)
	}
	send(&discoveryv3.DiscoveryRequest{})
	for !slices.Equal(holds, resourceNames([]string{"a", "c"})) {
		next()
	}
	g.publish(routeTo("a", 1), routeTo("bad", 1), func() *mesh.Route { r := routeTo("c", 1); r.Protocol = mesh.TCP; return r }())
	was := version
	for version == was {
		next()
	}
	if !slices.Equal(holds, resourceNames([]string{"a", "c"})) {
		t.Errorf("holds %v", holds)
	}
	bad = false
	mended := routeTo("bad", 1)
	mended.Protocol = mesh.TCP
	g.publish(routeTo("a", 1), mended, routeTo("c", 1))
	for !slices.Equal(holds, resourceNames([]string{"a", "bad", "c"})) {
		next()
	}
}

func TestAnAnswerForWhichThereIsNoRoomComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCache(t)
		if err := c.replace([]*mesh.Route{routeTo("orders", 1)}, true); err != nil {
			t.Fatal(err)
		}
		room, told := false, 0
		w := &watch{stream: &adsStream{}, kind: endpoints, sub: stream.NewDeltaSubscription([]string{service("orders").String()}, nil, nil, false),
			nonce: func() string { return "" }, send: func(change) bool {
				if room {
					told++
				}
				return room
			}}
		cancel := c.open(w)
		defer cancel()
		time.Sleep(10 * sendPause)
		c.mu.Lock()
		room = true
		c.mu.Unlock()
		time.Sleep(10 * sendPause)
		synctest.Wait()
		if told != 1 {
			t.Errorf("answered %d times", told)
		}
	})
}

func TestTheStateOfTheWorldIsServedBesideTypesThatNobodyKnows(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("orders", 1))
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(g.connect(g.mesh.Workload("east", "shop", "web"))).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, typeURL := range []string{"type.googleapis.com/envoy.of.tomorrow", xds.ClusterType} {
		if err := stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: typeURL, ResourceNames: resourceNames([]string{"orders"})}); err != nil {
			t.Fatal(err)
		}
		for {
			resp, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if resp.TypeUrl == typeURL {
				break
			}
		}
	}
}

func TestTheTypesOfOneStreamAreBounded(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", routeTo("orders", 1))
	c := g.dial("web")
	for i := range maxTypes + 1 {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: fmt.Sprint("type.googleapis.com/made.up.", i)})
	}
	if err := <-c.ended; status.Code(err) != codes.ResourceExhausted {
		t.Errorf("ended with %v, want RESOURCE_EXHAUSTED", err)
	}
}
