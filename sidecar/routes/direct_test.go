package routes

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestRoutesSayWhomAddressesOfKubernetesLeadTo(t *testing.T) {
	db := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "db"}, Cluster: "east"}
	port := func(d mesh.Destination, n uint16) mesh.Destination { d.Port = n; return d }
	peers := db
	peers.Service.Name = "db-peers"
	anywhere := port(mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "a"}}, 5432)
	pods := []mesh.Endpoint{
		{Instance: "db-0", Address: "10.42.0.7:15008", Target: 5432, Identity: "spiffe://m/x"},
		{Instance: "db-1", Address: "[fd00::7]:15008", Target: 5432, Identity: "spiffe://m/x"},
		{Instance: "plain", Address: "10.42.0.9:5432"},
		{Instance: "named", Address: "db.example:15008", Target: 5432, Identity: "spiffe://m/x"},
	}
	table := NewTable([]*mesh.Route{
		{Destination: anywhere, Local: pods[:1]}, // not pinned to the own cluster: after those that are
		{Destination: port(peers, 5432), Local: pods[:1]},
		{Destination: db, Addresses: []netip.Addr{netip.MustParseAddr("10.43.0.5")}, Ports: []mesh.RoutePort{{Number: 5432}, {Number: 9187}}},
		{Destination: port(db, 5432), Local: pods},
		{Destination: peers, Headless: true, Ports: []mesh.RoutePort{{Number: 5432}}},
	}, nil)
	want := map[netip.AddrPort]Direct{
		netip.MustParseAddrPort("10.43.0.5:5432"): {Destination: port(db, 5432)},
		netip.MustParseAddrPort("10.43.0.5:9187"): {Destination: port(db, 9187)},
		netip.MustParseAddrPort("10.42.0.7:5432"): {port(db, 5432), "db-0"},
		netip.MustParseAddrPort("[fd00::7]:5432"): {port(db, 5432), "db-1"},
	}
	if got := table.DirectAddresses(); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if h := table.Headless(); len(h) != 1 || h[0].Destination != peers {
		t.Errorf("headless: %v", h)
	}
	if len(new(Table).DirectAddresses()) != 0 {
		t.Error("an empty table has addresses")
	}
}
