package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var orders = mesh.ServiceName{Namespace: "shop", Name: "orders"}

// fleet describes what a router of cluster east knows.
type fleet struct {
	local    []mesh.Service
	far      []farCluster
	siblings int // gateways of east beside east-1, alive
}

// farCluster is another cluster that exports shop/orders on port 80.
type farCluster struct {
	name     mesh.ClusterName
	ready    uint32
	capacity uint32
	rtts     []time.Duration // of its gateways with a live tunnel: name-1, name-2 …
	blind    int             // how many of them, from the end, see nothing ready
}

func (f fleet) router() *Router { return NewRouter(f.view(), f.local, Knowledge{}, f.rtt) }

// rtt is the round-trip time to a gateway of a far cluster.
func (f fleet) rtt(id mesh.GatewayID) time.Duration {
	for _, c := range f.far {
		for i, rtt := range c.rtts {
			if id.Cluster == c.name && string(id.Name) == fmt.Sprintf("%s-%d", c.name, i+1) {
				return rtt
			}
		}
	}
	return 0
}

// view is what the federation knows of the far clusters. One without a tunnel
// is known from its catalog alone.
func (f fleet) view() *federation.View {
	var gateways []core.Gateway
	var origins []federation.Origin
	for _, c := range f.far {
		for i := range max(len(c.rtts), 1) {
			id := mesh.GatewayID{Cluster: c.name, Name: mesh.GatewayName(fmt.Sprintf("%s-%d", c.name, i+1))}
			if i < len(c.rtts) {
				gateways = append(gateways, core.Gateway{ID: id, Tunnel: federation.Tunnel{Up: true}})
			}
			p := mesh.ExportPort{Port: 80, Protocol: mesh.HTTP, Ready: c.ready, Total: 2, Capacity: c.capacity,
				Identities: []string{"spiffe://m/cluster/" + string(c.name) + "/ns/shop/sa/orders"}}
			if len(c.rtts) > 0 && i >= len(c.rtts)-c.blind {
				p.Ready, p.Capacity = 0, 0
			}
			origins = append(origins, federation.Origin{ID: id, Records: []mesh.Export{{Service: orders, Ports: []mesh.ExportPort{p}}}})
		}
	}
	east := core.Gateway{ID: mesh.GatewayID{Cluster: "east", Name: "east-1"}, MeshAddress: "10.0.1.1:15443"}
	gateways = append(gateways, east)
	for i := range f.siblings {
		gateways = append(gateways, core.Gateway{ID: mesh.GatewayID{Cluster: "east", Name: mesh.GatewayName(fmt.Sprintf("east-%d", i+2))}, MeshAddress: fmt.Sprintf("10.0.1.%d:15443", i+2), Alive: true})
	}
	slices.SortFunc(origins, func(a, b federation.Origin) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	return core.NewView(east.ID, gateways, origins)
}

// service returns shop/orders with endpoints orders-1, orders-2 …
func service(export bool, ready ...bool) mesh.Service {
	p := mesh.ServicePort{Port: 80, Protocol: mesh.HTTP, Exported: export}
	for i, r := range ready {
		p.Endpoints = append(p.Endpoints, mesh.Endpoint{
			Instance: fmt.Sprintf("orders-%d", i+1), Address: fmt.Sprintf("10.0.0.%d:15008", i+1), Ready: r, Weight: 1,
		})
	}
	return mesh.Service{Name: orders, Ports: []mesh.ServicePort{p}}
}

func request(t *testing.T, authority string, exclude ...connect.Instance) *forward.Request {
	t.Helper()
	d, err := mesh.ParseDestination(authority)
	if err != nil {
		t.Fatal(err)
	}
	return &forward.Request{Request: connect.Request{Destination: d, Exclude: exclude},
		Load: func(string) int { return 0 }, Intn: rand.IntN}
}

func names(all []forward.Candidate) []string {
	var s []string
	for i := range all {
		s = append(s, all[i].String())
	}
	return s
}

const ms = time.Millisecond

func TestTheOwnClusterIsFirstAndTheNearestOtherNext(t *testing.T) {
	r := fleet{
		local: []mesh.Service{service(false, true)},
		far: []farCluster{
			{name: "north", ready: 2, capacity: 2, rtts: []time.Duration{80 * ms, 90 * ms}},
			{name: "west", ready: 2, capacity: 2, rtts: []time.Duration{30 * ms, 20 * ms, 40 * ms}},
		},
	}.router()
	for authority, c := range map[string]struct {
		exclude []connect.Instance
		want    []string
	}{
		"orders.shop.mesh:80":       {nil, []string{"orders-1", "west/west-2", "west/west-1", "north/north-1", "north/north-2"}},
		"ORDERS.shop.mesh.:80":      {[]connect.Instance{{Cluster: "east"}}, []string{"west/west-2", "west/west-1", "north/north-1", "north/north-2"}},
		"orders.shop.north.mesh:80": {nil, []string{"north/north-1", "north/north-2"}},
		"orders.shop.east.mesh:80":  {nil, []string{"orders-1"}},
		"orders.shop.svc.clusterset.local:80": {
			[]connect.Instance{{Cluster: "east", Name: "orders-1"}, {Cluster: "west"}},
			[]string{"north/north-1", "north/north-2"}},
	} {
		got, refusal := r.Outbound(request(t, authority, c.exclude...))
		if refusal != nil || !slices.Equal(names(got), c.want) {
			t.Errorf("%s without %v: %v, %v; want %v", authority, c.exclude, names(got), refusal, c.want)
		}
		for _, c := range got {
			if c.Port != 80 || c.Protocol != mesh.HTTP {
				t.Errorf("%s: candidate %+v", authority, c)
			}
		}
	}
	// SNI names no port: it means the first.
	req := request(t, "orders.shop.mesh:80")
	req.Destination.Port = 0
	if got, refusal := r.Outbound(req); refusal != nil || got[0].Port != 80 || got[1].Port != 80 {
		t.Errorf("without a port: %+v, %v", got, refusal)
	}
}

func TestWhoCannotServeIsNamedWithTheReason(t *testing.T) {
	r := fleet{
		local: []mesh.Service{service(true, false, false)},
		far: []farCluster{
			{name: "north", ready: 0, rtts: []time.Duration{ms}},
			{name: "south", ready: 1, rtts: []time.Duration{ms}},
			{name: "west", ready: 2},
		},
	}.router()
	for authority, c := range map[string]struct {
		status int
		want   []string
	}{
		"orders.shop.mesh:80": {http.StatusServiceUnavailable, []string{"no reachable cluster for shop/orders",
			"east: none of 2 endpoints is ready", "north: no ready endpoint", "south: excluded by the caller", "west: tunnel down"}},
		"orders.shop.west.mesh:80":  {http.StatusServiceUnavailable, []string{"(west: tunnel down)"}},
		"orders.shop.mesh:81":       {http.StatusNotFound, []string{"has no port 81"}},
		"cart.shop.mesh:80":         {http.StatusNotFound, []string{"no service shop/cart in any cluster"}},
		"orders.shop.venus.mesh:80": {http.StatusNotFound, []string{"no service shop/orders in cluster venus"}},
	} {
		got, refusal := r.Outbound(request(t, authority, connect.Instance{Cluster: "south"}))
		if refusal == nil || refusal.Status != c.status {
			t.Errorf("%s: %v, %v; want status %d", authority, names(got), refusal, c.status)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(refusal.Details, w) {
				t.Errorf("%s: %q does not say %q", authority, refusal.Details, w)
			}
		}
	}
}

func TestTheFarSideServesOnlyWhatItsClusterExports(t *testing.T) {
	r := fleet{
		local: []mesh.Service{service(true, true, false, true)},
		far:   []farCluster{{name: "west", ready: 2, rtts: []time.Duration{ms}}},
	}.router()
	got, refusal := r.Inbound(request(t, "orders.shop.mesh:80", connect.Instance{Cluster: "east", Name: "orders-1"}))
	if refusal != nil || !slices.Equal(names(got), []string{"orders-3"}) {
		t.Errorf("%v, %v; want the ready one that is not excluded", names(got), refusal)
	}
	if got, refusal = r.Inbound(request(t, "orders.shop.east.mesh:80")); refusal != nil || len(got) != 2 {
		t.Errorf("%v, %v; want both ready ones and no other cluster", names(got), refusal)
	}
	hidden := fleet{local: []mesh.Service{service(false, true)}}.router()
	down := fleet{local: []mesh.Service{service(true, false)}}.router()
	for name, c := range map[string]struct {
		router    *Router
		authority string
		exclude   []connect.Instance
		status    int
		want      string
	}{
		"not exported":  {hidden, "orders.shop.mesh:80", nil, http.StatusForbidden, "ServiceExport"},
		"unknown":       {r, "cart.shop.mesh:80", nil, http.StatusNotFound, "no service shop/cart"},
		"other port":    {r, "orders.shop.mesh:81", nil, http.StatusNotFound, "no port 81"},
		"other cluster": {r, "orders.shop.west.mesh:80", nil, http.StatusNotFound, "not in cluster east"},
		"none ready":    {down, "orders.shop.mesh:80", nil, http.StatusServiceUnavailable, "none of 1 endpoints is ready"},
		"excluded":      {r, "orders.shop.mesh:80", []connect.Instance{{Cluster: "east"}}, http.StatusServiceUnavailable, "excluded"},
		"each is excluded": {r, "orders.shop.mesh:80",
			[]connect.Instance{{Cluster: "east", Name: "orders-1"}, {Cluster: "east", Name: "orders-3"}},
			http.StatusServiceUnavailable, "every ready endpoint is excluded"},
	} {
		got, refusal := c.router.Inbound(request(t, c.authority, c.exclude...))
		if refusal == nil || refusal.Status != c.status || !strings.Contains(refusal.Details, c.want) {
			t.Errorf("%s: %v, %v; want %d …%s…", name, names(got), refusal, c.status, c.want)
		}
	}
}

func TestWhatAGatewayThatHasJustStartedDoesNotKnowIsUnavailableAndNotUnknown(t *testing.T) {
	view := &federation.View{Self: mesh.GatewayID{Cluster: "east", Name: "east-1"}}
	for name, local := range map[string][]mesh.Service{"nothing": nil, "another port": {service(true, true)}} {
		r := NewRouter(view, local, Knowledge{Missing: "it has just started"}, fleet{}.rtt)
		for _, authority := range []string{"orders.shop.mesh:81", "orders.shop.west.mesh:81"} {
			if got, refusal := r.Outbound(request(t, authority)); refusal == nil || refusal.Status != http.StatusServiceUnavailable {
				t.Errorf("%s known, %s: %v, %v", name, authority, names(got), refusal)
			}
		}
	}
	if got, refusal := NewRouter(view, nil, Knowledge{Missing: "it has just started"}, fleet{}.rtt).Inbound(request(t, "orders.shop.mesh:80")); refusal == nil || refusal.Status != http.StatusServiceUnavailable {
		t.Errorf("from a tunnel: %v, %v", names(got), refusal)
	}
	if got, refusal := NewRouter(view, []mesh.Service{service(true, true)}, Knowledge{Missing: "it has just started"}, fleet{}.rtt).Outbound(request(t, "orders.shop.mesh:80")); refusal != nil || len(got) != 1 {
		t.Errorf("what is known is not served: %v, %v", names(got), refusal)
	}
}

func TestWhatWasOfferedLatelyIsUnavailableAndWhatNeverWasIsUnknown(t *testing.T) {
	now := time.Now()
	east := mesh.GatewayID{Cluster: "east", Name: "east-1"}
	empty := core.NewView(east, nil, nil)
	offered := fleet{local: []mesh.Service{service(true, true)}, far: []farCluster{{name: "west", ready: 1, rtts: []time.Duration{time.Millisecond}}}}
	var d departed
	all := routesOf(offered.view(), offered.local, offered.router())
	if got, next := d.update(all, now); len(got) != len(all) || next != 0 {
		t.Fatalf("%d routes of %d, %s", len(got), len(all), next)
	}
	kept, next := d.update(nil, now)
	if len(kept) != len(all) || next != rememberFor {
		t.Errorf("%d routes are kept of %d, for %s", len(kept), len(all), next)
	}
	for _, r := range kept {
		if len(r.Local)+len(r.Gateways) > 0 || r.Destination.Port == 0 && len(r.Ports) == 0 {
			t.Errorf("%+v", r)
		}
	}
	status := func(known Knowledge, authority string) (outbound, inbound int) {
		r := NewRouter(empty, nil, known, fleet{}.rtt)
		_, out := r.Outbound(request(t, authority))
		_, in := r.Inbound(request(t, authority))
		return out.Status, in.Status
	}
	lately := Knowledge{Gone: d.destinations()}
	for authority, want := range map[string][2]int{
		"orders.shop.mesh:80":      {503, 503},
		"orders.shop.east.mesh:80": {503, 503},
		"orders.shop.west.mesh:80": {503, 404}, // it is asked of the wrong cluster
		"orders.shop.mesh:81":      {404, 404},
		"cart.shop.mesh:80":        {404, 404},
	} {
		if out, in := status(lately, authority); out != want[0] || in != want[1] {
			t.Errorf("%s: %d, and %d from a tunnel; want %v", authority, out, in, want)
		}
	}
	if kept, next := d.update(all[:1], now.Add(time.Minute)); len(kept) != len(all) || next != rememberFor-time.Minute || d.gone[all[0].Destination].route != nil {
		t.Errorf("what is back is kept as gone: %d routes, %s", len(kept), next)
	}
	if kept, _ := d.update(nil, now.Add(rememberFor)); len(kept) != 1 {
		t.Errorf("%d routes are kept for ever", len(kept))
	}
}

// firsts counts who is first in n answers.
func firsts(t *testing.T, n int, route func(*forward.Request) ([]forward.Candidate, *connect.Refusal), load map[string]int) map[string]int {
	t.Helper()
	count := map[string]int{}
	for range n {
		req := request(t, "orders.shop.mesh:80")
		req.Load = func(key string) int { return load[key] }
		got, refusal := route(req)
		if refusal != nil {
			t.Fatal(refusal)
		}
		count[got[0].String()]++
	}
	return count
}

func TestAmongEquallyNearClustersTheLessLoadedServes(t *testing.T) {
	r := fleet{far: []farCluster{
		{name: "north", ready: 2, capacity: 2, rtts: []time.Duration{20 * ms}},
		{name: "south", ready: 2, capacity: 2, rtts: []time.Duration{80 * ms}},
		{name: "west", ready: 2, capacity: 2, rtts: []time.Duration{21 * ms}},
	}}.router()
	// 20 and 21 ms are the same, 80 ms is not.
	count := firsts(t, 400, r.Outbound, nil)
	if count["north/north-1"] < 100 || count["west/west-1"] < 100 || count["south/south-1"] > 0 {
		t.Errorf("without load %v serve, want north and west about equally", count)
	}
	count = firsts(t, 100, r.Outbound, map[string]int{"north/north-1": 10, "west/west-1": 3})
	if count["west/west-1"] != 100 {
		t.Errorf("%v serve, want the less loaded west", count)
	}
	// Load is per capacity: ten paths on a hundred are less than three on two.
	r = fleet{far: []farCluster{
		{name: "north", ready: 2, capacity: 100, rtts: []time.Duration{20 * ms}},
		{name: "west", ready: 2, capacity: 2, rtts: []time.Duration{20 * ms}},
	}}.router()
	count = firsts(t, 100, r.Outbound, map[string]int{"north/north-1": 10, "west/west-1": 3})
	if count["north/north-1"] != 100 {
		t.Errorf("%v serve, want the bigger north", count)
	}
}

func TestAGatewayThatSeesNoReadyEndpointIsTheLast(t *testing.T) {
	r := fleet{far: []farCluster{{name: "west", ready: 2, capacity: 2, rtts: []time.Duration{30 * ms, 10 * ms}, blind: 1}}}.router()
	got, refusal := r.Outbound(request(t, "orders.shop.mesh:80"))
	if refusal != nil || !slices.Equal(names(got), []string{"west/west-1", "west/west-2"}) {
		t.Fatalf("%v, %v; want west-1, that sees one, although it is farther", names(got), refusal)
	}
}

func TestEndpointsShareTheLoadByWeight(t *testing.T) {
	svc := service(true, true, true, true, true, true)
	r := fleet{local: []mesh.Service{svc}}.router()
	count := firsts(t, 500, r.Inbound, nil)
	if len(count) != 5 {
		t.Errorf("%v serve, want all five", count)
	}
	busy := map[string]int{"10.0.0.1:15008": 9, "10.0.0.2:15008": 9, "10.0.0.3:15008": 9, "10.0.0.4:15008": 9}
	if count := firsts(t, 500, r.Inbound, busy); count["orders-5"] < 125 {
		t.Errorf("%v serve, want the idle one far above its fifth", count)
	}
	// Never more than a few attempts, and never one twice.
	got, _ := r.Inbound(request(t, "orders.shop.mesh:80"))
	slices.SortFunc(got, func(a, b forward.Candidate) int { return strings.Compare(a.Key(), b.Key()) })
	if len(slices.Compact(names(got))) != maxEndpoints {
		t.Errorf("candidates %v, want %d different ones", names(got), maxEndpoints)
	}
	two := service(true, true, true)
	two.Ports[0].Endpoints[1].Weight = 4
	r = fleet{local: []mesh.Service{two}}.router()
	if count := firsts(t, 100, r.Inbound, map[string]int{"10.0.0.1:15008": 1, "10.0.0.2:15008": 4}); count["orders-2"] != 100 {
		t.Errorf("%v serve; want orders-2: 4 paths at weight 4 are less than 1 at 1", count)
	}
}

func TestADestinationIsReachedWhenAnotherClusterIsReadyBehindALiveTunnel(t *testing.T) {
	r := fleet{far: []farCluster{
		{name: "north", ready: 0, rtts: []time.Duration{ms}},
		{name: "south", ready: 1},
		{name: "west", ready: 1, rtts: []time.Duration{ms}},
	}}.router()
	for authority, want := range map[string]bool{
		"orders.shop.mesh:80": true, "orders.shop.west.mesh:80": true, "orders.shop.mesh:81": false,
		"orders.shop.north.mesh:80": false, "orders.shop.south.mesh:80": false, "cart.shop.mesh:80": false,
	} {
		if got := r.Reaches(request(t, authority).Destination); got != want {
			t.Errorf("Reaches(%s) = %v, want %v", authority, got, want)
		}
	}
}

func TestTheSameInputsGiveTheSameChoice(t *testing.T) {
	r := fleet{
		local: []mesh.Service{service(true, true, true, true, true)},
		far: []farCluster{
			{name: "north", ready: 2, capacity: 2, rtts: []time.Duration{20 * ms, 20 * ms}},
			{name: "west", ready: 2, capacity: 2, rtts: []time.Duration{21 * ms, 21 * ms}},
		},
	}.router()
	choice := func(seed uint64) []string {
		req := request(t, "orders.shop.mesh:80")
		req.Intn = rand.New(rand.NewPCG(seed, 0)).IntN
		got, refusal := r.Outbound(req)
		if refusal != nil {
			t.Fatal(refusal)
		}
		return names(got)
	}
	different := false
	for seed := range uint64(20) {
		if a, b := choice(seed), choice(seed); !slices.Equal(a, b) {
			t.Errorf("seed %d: %v, then %v", seed, a, b)
		}
		different = different || !slices.Equal(choice(seed), choice(seed+1))
	}
	if !different {
		t.Error("the random numbers handed in decide nothing")
	}
}

func TestACallerIsLedToInstancesThatItDoesNotHold(t *testing.T) {
	held := func(names ...string) func(*forward.Request) {
		return func(req *forward.Request) {
			for _, n := range names {
				c, i, _ := strings.Cut(n, "/")
				req.Held = append(req.Held, connect.Instance{Cluster: mesh.ClusterName(c), Name: i})
			}
		}
	}
	far := fleet{far: []farCluster{
		{name: "north", ready: 2, capacity: 200, rtts: []time.Duration{20 * ms}},
		{name: "south", ready: 2, capacity: 2, rtts: []time.Duration{80 * ms}},
		{name: "west", ready: 1, capacity: 1, rtts: []time.Duration{21 * ms}},
	}}.router()
	local := fleet{local: []mesh.Service{service(true, true, true, true)}}.router()
	for name, c := range map[string]struct {
		route choose
		held  func(*forward.Request)
		first []string // who may be the first
		all   int      // candidates
	}{
		"one of two clusters is held":                      {far.Outbound, held("north/a", "north/b"), []string{"west/west-1"}, 3},
		"one of two instances is held":                     {far.Outbound, held("north/a", "west/x"), []string{"north/north-1"}, 3},
		"both near clusters are held, and the far one not": {far.Outbound, held("north/a", "north/b", "west/x"), []string{"north/north-1", "west/west-1"}, 3},
		"two of three endpoints are held":                  {local.Inbound, held("east/orders-1", "east/orders-3"), []string{"orders-2"}, 3},
		"all endpoints are held":                           {local.Inbound, held("east/orders-1", "east/orders-2", "east/orders-3"), []string{"orders-1", "orders-2", "orders-3"}, 3},
		"who is held elsewhere":                            {local.Inbound, held("west/orders-1"), []string{"orders-1", "orders-2", "orders-3"}, 3},
	} {
		for range 50 {
			req := request(t, "orders.shop.mesh:80")
			c.held(req)
			got, refusal := c.route(req)
			if refusal != nil || len(got) != c.all || !slices.Contains(c.first, got[0].String()) {
				t.Fatalf("%s: %v, %v; want first one of %v", name, names(got), refusal, c.first)
			}
		}
	}
}

// choose is Outbound or Inbound of a router.
type choose func(*forward.Request) ([]forward.Candidate, *connect.Refusal)

func TestOnePathAfterTheOtherMeetsTheWeights(t *testing.T) {
	two := service(true, true, true)
	two.Ports[0].Endpoints[1].Weight = 3
	r := fleet{local: []mesh.Service{two}}.router()
	if count := firsts(t, 4000, r.Inbound, nil); count["orders-2"] < 2850 || count["orders-2"] > 3150 {
		t.Errorf("idle endpoints of weights 1 and 3: %v of 4000 connections", count)
	}
	// Long ones end up in proportion, too.
	load := map[string]int{}
	address := map[string]string{"orders-1": "10.0.0.1:15008", "orders-2": "10.0.0.2:15008"}
	for range 400 {
		for who := range firsts(t, 1, r.Inbound, load) {
			load[address[who]]++
		}
	}
	if n := load[address["orders-2"]]; n < 290 || n > 310 {
		t.Errorf("%d of 400 lasting connections go to the endpoint of weight 3, want 300", n)
	}
}
