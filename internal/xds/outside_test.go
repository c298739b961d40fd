package xds

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestARouteOfANameSaysThatItIsOutside(t *testing.T) {
	for _, outside := range []bool{true, false} {
		r := &mesh.Route{
			Destination: mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Cluster: "east"},
			Protocol:    mesh.TCP, Outside: outside, Ports: []mesh.RoutePort{{Number: 80, Protocol: mesh.HTTP}},
		}
		e, err := Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(e.Cluster.GetResource().GetValue(), e.Endpoints.GetResource().GetValue(), nil)
		if err != nil || !got.Equal(r) {
			t.Errorf("%+v, %v; want %+v", got, err, r)
		}
	}
}
