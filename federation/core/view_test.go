package core

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// serving returns an export of one HTTP port with ready endpoints of the cluster.
func serving(cluster mesh.ClusterName, service string, ready uint32) mesh.Export {
	name, err := mesh.ParseServiceName(service)
	if err != nil {
		panic(err)
	}
	return mesh.Export{Service: name, Ports: []mesh.ExportPort{{Port: 80, Protocol: mesh.HTTP, Ready: ready, Total: 2, Capacity: ready,
		Identities: []string{"spiffe://mesh.example/cluster/" + string(cluster) + "/ns/" + name.Namespace + "/sa/" + name.Name}}}}
}

func gw(cluster mesh.ClusterName, name mesh.GatewayName) mesh.GatewayID {
	return mesh.GatewayID{Cluster: cluster, Name: name}
}

// viewOf indexes a view of east/east-1.
func viewOf(gateways []Gateway, origins []Origin) *View {
	return NewView(gw("east", "east-1"), gateways, origins)
}

func up(id mesh.GatewayID) Gateway {
	return Gateway{ID: id, Alive: true, Tunnel: Tunnel{Up: true}}
}

var ordersName = mesh.ServiceName{Namespace: "shop", Name: "orders"}

func TestGatewaysThatExportAServiceAreListedInOrderOfTheirNames(t *testing.T) {
	ready, unready := []mesh.Export{serving("west", "shop/orders", 1)}, []mesh.Export{serving("west", "shop/orders", 0)}
	v := viewOf(
		[]Gateway{up(gw("west", "w1")), up(gw("west", "w2")), up(gw("west", "w3")), up(gw("west", "w4"))},
		[]Origin{{ID: gw("west", "w1"), Records: unready}, {ID: gw("west", "w2"), Records: ready}, {ID: gw("west", "w3"), Records: ready}})
	x := v.Exports(ordersName)
	if len(x) != 1 {
		t.Fatalf("exports %+v", x)
	}
	want := []mesh.GatewayID{gw("west", "w1"), gw("west", "w2"), gw("west", "w3")}
	if !slices.Equal(x[0].Gateways, want) {
		t.Errorf("gateways %v, want %v: who exports nothing is not asked", x[0].Gateways, want)
	}
}

func TestWhatADeadGatewaySaidDoesNotCountBesideALiveOne(t *testing.T) {
	v := viewOf(
		[]Gateway{{ID: gw("west", "w1"), Alive: true}, up(gw("west", "w2"))},
		[]Origin{
			{ID: gw("west", "w1"), Records: []mesh.Export{serving("west", "shop/orders", 2)}},
			{ID: gw("west", "w2"), Records: []mesh.Export{serving("west", "shop/orders", 0)}},
		})
	if x := v.Exports(ordersName)[0]; x.Export.Ports[0].Ready != 0 || len(x.Gateways) != 1 {
		t.Errorf("west offers %+v", x)
	}
}

func TestAClusterOutOfReachIsListedWithoutGateways(t *testing.T) {
	v := viewOf(nil, []Origin{{ID: gw("west", "w1"), Stale: true, Records: []mesh.Export{serving("west", "shop/orders", 2)}}})
	x := v.Exports(ordersName)
	if len(x) != 1 || len(x[0].Gateways) != 0 || x[0].Export.Ports[0].Ready != 2 {
		t.Errorf("exports %+v", x)
	}
}

func TestOwnOriginsAreNotExportedToOurselves(t *testing.T) {
	v := viewOf([]Gateway{up(gw("east", "east-2"))}, []Origin{{ID: gw("east", "east-1"), Records: []mesh.Export{serving("east", "shop/orders", 2)}}, {ID: gw("east", "east-2"), Records: []mesh.Export{serving("east", "shop/orders", 2)}}})
	if len(v.Services()) != 0 || len(v.Exports(ordersName)) != 0 {
		t.Errorf("exports %+v", v.Exports(ordersName))
	}
}

func TestIdentitiesOfAllReachableGatewaysMayAnswer(t *testing.T) {
	a, b := serving("west", "shop/orders", 1), serving("west", "shop/orders", 1)
	a.Ports[0].Identities = []string{"spiffe://mesh.example/cluster/west/gateway/w1", "spiffe://mesh.example/cluster/west/ns/shop/sa/orders"}
	b.Ports[0].Identities = []string{"spiffe://mesh.example/cluster/west/gateway/w2", "spiffe://mesh.example/cluster/west/ns/shop/sa/orders"}
	before := slices.Clone(a.Ports[0].Identities)
	v := viewOf([]Gateway{up(gw("west", "w1")), up(gw("west", "w2"))},
		[]Origin{{ID: gw("west", "w1"), Records: []mesh.Export{a}}, {ID: gw("west", "w2"), Records: []mesh.Export{b}}})
	if got := v.Exports(ordersName)[0].Export.Ports[0].Identities; len(got) != 3 {
		t.Errorf("identities %v, want three", got)
	}
	if !slices.Equal(a.Ports[0].Identities, before) {
		t.Error("an origin's own record was changed")
	}
}

func TestWhoIsCutOffFromEverybodyDoesNotCallItsSiblingsGone(t *testing.T) {
	v := viewOf([]Gateway{{ID: gw("east", "east-1"), Alive: true}, {ID: gw("east", "east-2")}, {ID: gw("east", "east-3"), Refused: "its cluster has the name of an earlier one"}, {ID: gw("west", "w1")}}, nil)
	l := v.LocalGateways()
	if len(l) != 2 || l[0].ID != v.Self || l[1].ID != gw("east", "east-2") {
		t.Errorf("local gateways %+v", l)
	}
}

func TestLocalGatewaysAreThoseThatAreThere(t *testing.T) {
	v := viewOf([]Gateway{{ID: gw("east", "east-1"), Alive: true}, {ID: gw("east", "east-2")}, {ID: gw("east", "east-3"), Alive: true}, up(gw("west", "w1"))}, nil)
	l := v.LocalGateways()
	if len(l) != 2 || l[0].ID != v.Self || l[1].ID != gw("east", "east-3") {
		t.Errorf("local gateways %+v", l)
	}
}
