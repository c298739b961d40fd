package gateway

import (
	"bytes"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// speaking is a view of this cluster on others that export shop/orders on port 80, each
// with a live tunnel, a ready endpoint and a protocol of its own.
func speaking(self mesh.ClusterName, protocols map[mesh.ClusterName]mesh.Protocol) *federation.View {
	var gateways []core.Gateway
	var origins []federation.Origin
	for _, c := range []mesh.ClusterName{"east", "north", "south", "west"} {
		p, ok := protocols[c]
		if !ok || c == self {
			continue
		}
		id := mesh.GatewayID{Cluster: c, Name: mesh.GatewayName(c + "-1")}
		gateways = append(gateways, core.Gateway{ID: id, Tunnel: federation.Tunnel{Up: true}})
		origins = append(origins, federation.Origin{ID: id, Records: []mesh.Export{{Service: orders, Ports: []mesh.ExportPort{
			{Port: 80, Protocol: p, Ready: 1, Total: 1, Capacity: 1, Identities: []string{"spiffe://m/cluster/" + string(c) + "/ns/shop/sa/orders"}}}}}})
	}
	return core.NewView(mesh.GatewayID{Cluster: self, Name: "gw"}, gateways, origins)
}

func TestWhereClustersDeclareDifferentProtocolsOneWordCounts(t *testing.T) {
	http80 := mesh.Service{Name: orders, Ports: []mesh.ServicePort{{Port: 80, Protocol: mesh.HTTP,
		Endpoints: []mesh.Endpoint{{Instance: "a", Address: "10.0.0.1:1", Ready: true, Weight: 1}}}}}
	all := map[mesh.ClusterName]mesh.Protocol{"east": mesh.TCP, "north": mesh.HTTP, "south": mesh.TCP, "west": mesh.HTTP}
	for name, tc := range map[string]struct {
		self     mesh.ClusterName
		local    []mesh.Service
		protocol mesh.Protocol
		inForce  mesh.ClusterName
		serve    string // clusters, in any order
	}{
		"the own one's":                     {"west", []mesh.Service{http80}, mesh.HTTP, "west", "north west"},
		"that of the first by name":         {"middle", nil, mesh.TCP, "east", "east south"},
		"the same at another gateway there": {"north", nil, mesh.TCP, "east", "east south"},
	} {
		view := speaking(tc.self, all)
		r := NewRouter(view, tc.local, Knowledge{}, fleet{}.rtt)
		got, refusal := r.Outbound(request(t, "orders.shop.mesh:80"))
		if refusal != nil {
			t.Errorf("%s: %v", name, refusal)
		}
		for _, c := range got {
			cluster := c.Gateway.Cluster
			if !c.Remote() {
				cluster = tc.self
			}
			if c.Protocol != tc.protocol || !strings.Contains(tc.serve, string(cluster)) {
				t.Errorf("%s: %s of %s is offered", name, c.Protocol, cluster)
			}
		}
		if len(got) != 2 {
			t.Errorf("%s: %v, want %s", name, names(got), tc.serve)
		}
		for _, route := range routesOf(view, tc.local, r) {
			switch d := route.Destination; {
			case d.Port == 80 && d.Cluster == "":
				if route.Protocol != tc.protocol {
					t.Errorf("%s: the route says %s", name, route.Protocol)
				}
				for _, id := range route.Identities {
					if !strings.Contains(tc.serve, strings.Split(id, "/")[4]) {
						t.Errorf("%s: %s may answer", name, id)
					}
				}
			case d.Port == 80 && d.Cluster != tc.self && route.Protocol != all[d.Cluster]:
				t.Errorf("%s: pinned to %s the route says %s", name, d.Cluster, route.Protocol)
			}
		}
		if got, refusal := r.Outbound(request(t, "orders.shop.south.mesh:80")); refusal != nil || len(got) != 1 || got[0].Protocol != mesh.TCP {
			t.Errorf("%s: who names south gets %v, %v", name, names(got), refusal)
		}
		if s := r.conflicts.status(); len(s) != 1 || s[0].InForce != tc.inForce || s[0].Port != 80 || s[0].Protocols["south"] != mesh.TCP {
			t.Errorf("%s: status says %+v", name, s)
		}
	}
}

// A cluster that joins later must not be able to change what others say, whatever it is
// called.
func TestOfTwoProtocolsThatOfTheClusterFoundedFirstCounts(t *testing.T) {
	all := map[mesh.ClusterName]mesh.Protocol{"east": mesh.TCP, "south": mesh.HTTP, "west": mesh.HTTP}
	for name, tc := range map[string]struct {
		founded map[mesh.ClusterName]int64
		inForce mesh.ClusterName
	}{
		"founded first":            {map[mesh.ClusterName]int64{"east": 30, "south": 20, "west": 10}, "west"},
		"not known is after known": {map[mesh.ClusterName]int64{"south": 20}, "south"},
		"none is known":            {nil, "east"},
	} {
		view := speaking("middle", all)
		for i := range view.Origins {
			if at := tc.founded[view.Origins[i].ID.Cluster]; at != 0 {
				view.Origins[i].Founding = identity.Founding{At: at, Key: "k"}
			}
		}
		view = core.NewView(view.Self, view.Gateways, view.Origins)
		if s := conflictsOf(view, nil, nil).status(); len(s) != 1 || s[0].InForce != tc.inForce {
			t.Errorf("%s: %+v, want %s in force", name, s, tc.inForce)
		}
	}
}

func TestAPlainEndpointOfAnotherClusterNeverWinsOverOneWithIdentity(t *testing.T) {
	port80 := mesh.Destination{Service: orders, Port: 80}
	endpoint := mesh.Endpoint{Instance: "a", Address: "10.0.0.1:1", Ready: true, Weight: 1}
	proved := endpoint
	proved.Identity = "spiffe://m/cluster/middle/ns/shop/sa/orders"
	here := func(e ...mesh.Endpoint) []mesh.Service {
		return []mesh.Service{{Name: orders, Ports: []mesh.ServicePort{{Port: 80, Protocol: mesh.HTTP, Endpoints: e}}}}
	}
	for name, tc := range map[string]struct {
		plain  string // clusters
		down   string // clusters whose endpoints are not ready
		local  []mesh.Service
		served string
	}{
		"all with identity":               {"", "", nil, "east west"},
		"one is plain":                    {"east", "", nil, "west"},
		"also when the other is down":     {"east", "west", nil, ""},
		"all are plain":                   {"east west", "", nil, "east west"},
		"the own one has identity":        {"east west", "", here(proved), "middle"},
		"the own one is plain":            {"east", "", here(endpoint), "middle west"},
		"the own one and all are plain":   {"east west", "", here(endpoint), "middle east west"},
		"the own one has no instance now": {"east west", "", here(), "east west"},
	} {
		view := speaking("middle", map[mesh.ClusterName]mesh.Protocol{"east": mesh.HTTP, "west": mesh.HTTP})
		for i := range view.Origins {
			c := string(view.Origins[i].ID.Cluster)
			p := &view.Origins[i].Records[0].Ports[0]
			if strings.Contains(tc.plain, c) {
				p.Plain, p.Identities = true, []string{"spiffe://m/cluster/" + c + "/gateway/" + c + "-1"}
			}
			if strings.Contains(tc.down, c) {
				p.Ready = 0
			}
		}
		view = core.NewView(view.Self, view.Gateways, view.Origins)
		r := NewRouter(view, tc.local, Knowledge{}, fleet{}.rtt)
		got, _ := r.Outbound(request(t, "orders.shop.mesh:80"))
		var served []string
		for _, c := range got {
			cluster := "middle"
			if c.Remote() {
				cluster = string(c.Gateway.Cluster)
			}
			served = append(served, cluster)
		}
		slices.Sort(served)
		want := strings.Fields(tc.served)
		slices.Sort(want)
		if !slices.Equal(served, want) {
			t.Errorf("%s: served by %v, want %v", name, served, want)
		}
		for _, route := range routesOf(view, tc.local, r) {
			for _, id := range route.Identities {
				if route.Destination == port80 && !strings.Contains(tc.served+tc.down, strings.Split(id, "/")[4]) {
					t.Errorf("%s: %s may answer", name, id)
				}
			}
		}
		// Who names the cluster knows whom it trusts, and status says who offers it.
		if got, refusal := r.Outbound(request(t, "orders.shop.east.mesh:80")); len(got) != 1 {
			t.Errorf("%s: who names east gets %v, %v", name, names(got), refusal)
		}
		clusters := servicesOf(view, tc.local, r.conflicts)[0].Clusters
		if n := 2 + len(tc.local); len(clusters) != n {
			t.Errorf("%s: status names %d clusters, want %d", name, len(clusters), n)
		}
		for _, c := range clusters {
			left := strings.Contains(tc.plain, string(c.Cluster)) && !strings.Contains(tc.served, string(c.Cluster))
			if (c.LeftOut != "") != left {
				t.Errorf("%s: of %s status says %q", name, c.Cluster, c.LeftOut)
			}
		}
	}
}

func TestARefusalSaysThatAProtocolIsInTheWay(t *testing.T) {
	tcp := mesh.Service{Name: orders, Ports: []mesh.ServicePort{{Port: 80, Protocol: mesh.TCP}}}
	r := NewRouter(speaking("middle", map[mesh.ClusterName]mesh.Protocol{"west": mesh.HTTP}), []mesh.Service{tcp}, Knowledge{}, fleet{}.rtt)
	_, refusal := r.Outbound(request(t, "orders.shop.mesh:80"))
	if refusal == nil || refusal.Status != http.StatusServiceUnavailable || !strings.Contains(refusal.Details, "west: it declares port 80 with protocol http, cluster middle with tcp") {
		t.Errorf("refused with %v", refusal)
	}
	if r.Reaches(mesh.Destination{Service: orders, Port: 80}) {
		t.Error("a cluster that is left out is said to be reached")
	}
}

func TestAConflictIsLoggedOnceAndSoIsItsEnd(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, nil))
	clash := conflictsOf(speaking("middle", map[mesh.ClusterName]mesh.Protocol{"east": mesh.TCP, "west": mesh.HTTP}), nil, nil)
	peace := conflictsOf(speaking("middle", map[mesh.ClusterName]mesh.Protocol{"east": mesh.HTTP, "west": mesh.HTTP}), nil, nil)
	for before, now := conflicts(nil), clash; ; before, now = now, peace {
		now.logChanges(before, log)
		now.logChanges(now, log)
		if len(now) == 0 {
			break
		}
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `service=shop/orders port=80 declared="east tcp, west http" in_force=east`) || !strings.Contains(lines[1], "agree") {
		t.Errorf("logged:\n%s", b.String())
	}
}

// west served shop/orders with sidecars, and the last of them has gone.
func TestPlainEndpointsDoNotTakeThePlaceOfWhoHadAnIdentityLately(t *testing.T) {
	of := func(plain string, clusters ...mesh.ClusterName) *federation.View {
		protocols := map[mesh.ClusterName]mesh.Protocol{}
		for _, c := range clusters {
			protocols[c] = mesh.HTTP
		}
		view := speaking("middle", protocols)
		for i := range view.Origins {
			c := view.Origins[i].ID.Cluster
			if strings.Contains(plain, string(c)) {
				p := &view.Origins[i].Records[0].Ports[0]
				p.Plain, p.Identities = true, []string{"spiffe://m/cluster/" + string(c) + "/gateway/" + string(c) + "-1"}
			}
		}
		return core.NewView(view.Self, view.Gateways, view.Origins)
	}
	var past proven
	now := time.Unix(0, 0)
	served := func(view *federation.View, pin string) (clusters []string, left string) {
		lately, _ := past.update(proversOf(view, nil), now)
		r := NewRouter(view, nil, Knowledge{Proved: lately}, fleet{}.rtt)
		got, _ := r.Outbound(request(t, "orders.shop."+pin+"mesh:80"))
		for _, c := range got {
			clusters = append(clusters, string(c.Gateway.Cluster))
		}
		for _, c := range servicesOf(view, nil, r.conflicts)[0].Clusters {
			left += c.LeftOut
		}
		slices.Sort(clusters)
		return clusters, left
	}
	want := func(what string, got []string, left string, clusters ...string) {
		t.Helper()
		if !slices.Equal(got, clusters) {
			t.Errorf("%s: served by %v (%s), want %v", what, got, left, clusters)
		}
	}
	both, alone := of("east", "east", "west"), of("east", "east")
	got, left := served(both, "")
	want("with identity", got, left, "west")
	now = now.Add(time.Hour)
	got, left = served(alone, "")
	want("the moment after", got, left)
	if !strings.Contains(left, "until lately") {
		t.Errorf("status says %q", left)
	}
	now = now.Add(rememberFor - time.Second)
	got, left = served(alone, "east.")
	want("who names the cluster", got, left, "east")
	got, left = served(alone, "")
	want("before the time is over", got, left)
	got, left = served(both, "")
	want("when it is back", got, left, "west")
	got, left = served(alone, "")
	want("when it has gone again", got, left)
	now = now.Add(rememberFor)
	got, left = served(alone, "")
	want("afterwards", got, left, "east")
	if left != "" {
		t.Errorf("status says %q", left)
	}

	got, left = served(of("", "west"), "")
	want("alone with identity", got, left, "west")
	got, left = served(of("west", "west"), "")
	want("a cluster that has become plain itself", got, left, "west")
}
