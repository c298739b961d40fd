package gateway

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestEveryClusterThatExportsAServiceOffersItTheOwnOneToo(t *testing.T) {
	view := speaking("middle", map[mesh.ClusterName]mesh.Protocol{"east": mesh.TCP, "west": mesh.TCP})
	set := &mesh.ClusterSet{Headless: true}
	own := []mesh.Service{
		{Name: orders, ClusterSet: set, Ports: []mesh.ServicePort{{Port: 80, Protocol: mesh.TCP, Exported: true, Endpoints: []mesh.Endpoint{{Instance: "a", Ready: true}}}}},
		{Name: mesh.ServiceName{Namespace: "shop", Name: "kept"}, Ports: []mesh.ServicePort{{Port: 80, Protocol: mesh.TCP}}},
	}
	self := identity.Peer{ID: identity.ID{TrustDomain: "m", Cluster: "middle", Gateway: "gw"}, Founding: identity.Founding{}}
	offers := offersOf(view, own, self)
	if len(offers) != 1 || len(offers[orders]) != 3 {
		t.Fatalf("%v", offers)
	}
	first := offers[orders][0]
	if first.Cluster != "middle" || first.Export.ClusterSet != set || first.Export.Ports[0].Identities[0] != self.ID.String() {
		t.Errorf("%+v", first)
	}
	if got := []mesh.ClusterName{offers[orders][1].Cluster, offers[orders][2].Cluster}; !slices.Equal(got, []mesh.ClusterName{"east", "west"}) {
		t.Errorf("%v", got)
	}
}

func TestWhoHasNoSidecarIsNotTakenToWhatTheOwnClusterKeepsForItself(t *testing.T) {
	own := func(exported bool) []mesh.Service {
		return []mesh.Service{{Name: orders, Ports: []mesh.ServicePort{{Port: 80, Protocol: mesh.TCP, Exported: exported,
			Endpoints: []mesh.Endpoint{{Instance: "a", Ready: true, Identity: "spiffe://m/cluster/middle/ns/shop/sa/orders"}}}}}}
	}
	view := speaking("middle", map[mesh.ClusterName]mesh.Protocol{"east": mesh.TCP})
	d := mesh.Destination{Service: orders, Port: 80}
	for exported, keeps := range map[bool]bool{true: false, false: true} {
		r := NewRouter(view, own(exported), Knowledge{}, fleet{}.rtt)
		if r.keeps(d) != keeps {
			t.Errorf("exported %v: it keeps it: %v", exported, r.keeps(d))
		}
		want := []string{"spiffe://m/cluster/middle/ns/shop/sa/orders", "spiffe://m/cluster/east/ns/shop/sa/orders"}
		if got := r.answers(d); !slices.Equal(got, want) {
			t.Errorf("%v may answer", got)
		}
	}
	if NewRouter(&federation.View{}, nil, Knowledge{}, nil).keeps(d) {
		t.Error("what is not there is kept")
	}
}
