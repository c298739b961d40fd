package xds

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func endpointGen(withIdentity bool) *rapid.Generator[mesh.Endpoint] {
	return rapid.Custom(func(t *rapid.T) mesh.Endpoint {
		e := mesh.Endpoint{
			Instance: rapid.StringMatching(`[a-z]{1,8}-[0-9]`).Draw(t, "instance"),
			Address:  fmt.Sprintf("10.0.0.%d:%d", rapid.IntRange(1, 254).Draw(t, "host"), rapid.IntRange(1, 65535).Draw(t, "port")),
			Ready:    rapid.Bool().Draw(t, "ready"),
			Weight:   rapid.Uint32Range(1, mesh.MaxWeight).Draw(t, "weight"),
			Target:   rapid.Uint16().Draw(t, "target"),
		}
		if withIdentity && rapid.Bool().Draw(t, "has identity") {
			e.Identity = identityGen().Draw(t, "identity")
		}
		return e
	})
}

func identityGen() *rapid.Generator[string] {
	return rapid.StringMatching(`spiffe://mesh\.example/cluster/[a-z]{1,5}/ns/shop/sa/[a-z]{1,9}`)
}

func routeGen() *rapid.Generator[*mesh.Route] {
	return rapid.Custom(func(t *rapid.T) *mesh.Route {
		r := &mesh.Route{
			Destination: mesh.Destination{
				Service: mesh.ServiceName{Namespace: rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "ns"), Name: rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "name")},
				Port:    rapid.Uint16Range(1, 65535).Draw(t, "port"),
				Cluster: mesh.ClusterName(rapid.StringMatching(`([a-z]{1,8})?`).Draw(t, "cluster")),
			},
			Protocol:   rapid.SampledFrom([]mesh.Protocol{mesh.TCP, mesh.HTTP, mesh.HTTP2, mesh.GRPC, mesh.Auto}).Draw(t, "protocol"),
			Local:      rapid.SliceOfN(endpointGen(true), 0, 5).Draw(t, "local"),
			Gateways:   rapid.SliceOfN(endpointGen(false), 0, 3).Draw(t, "gateways"),
			Identities: rapid.SliceOfN(identityGen(), 0, 4).Draw(t, "identities"),
		}
		if rapid.Bool().Draw(t, "lists ports") {
			r.Destination.Port = 0
			r.Headless = rapid.Bool().Draw(t, "headless")
			for _, last := range rapid.SliceOfN(rapid.Byte(), 0, 2).Draw(t, "addresses") {
				r.Addresses = append(r.Addresses, netip.AddrFrom4([4]byte{10, 43, 0, last}), netip.AddrFrom16([16]byte{0: 0xfd, 15: last}))
			}
			for _, n := range rapid.SliceOfNDistinct(rapid.Uint16Range(1, 65535), 0, 5, rapid.ID).Draw(t, "ports") {
				r.Ports = append(r.Ports, mesh.RoutePort{Number: n, Protocol: r.Protocol})
			}
			slices.SortFunc(r.Ports, func(a, b mesh.RoutePort) int { return cmp.Compare(a.Number, b.Number) })
		}
		return r
	})
}

// normal is r as Decode gives it: sorted, and nil where empty.
func normal(r *mesh.Route) *mesh.Route {
	n := *r
	n.Local = append([]mesh.Endpoint(nil), r.Local...)
	n.Gateways = append([]mesh.Endpoint(nil), r.Gateways...)
	n.Identities = append([]string(nil), r.Identities...)
	slices.SortStableFunc(n.Local, compareEndpoints)
	slices.SortStableFunc(n.Gateways, compareEndpoints)
	slices.Sort(n.Identities)
	n.Identities = slices.Compact(n.Identities)
	return &n
}

func TestARouteComesBackAsItWasSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := routeGen().Draw(t, "route")
		e, err := Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(e.Cluster.Resource.Value, e.Endpoints.Resource.Value, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := normal(r); !reflect.DeepEqual(got, want) {
			t.Fatalf("came back as\n%+v, was\n%+v", got, want)
		}
	})
}

func TestTheVersionDependsOnTheContentAndNotOnItsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := routeGen().Draw(t, "route")
		seen := map[string]bool{}
		for _, e := range slices.Concat(r.Local, r.Gateways) {
			if seen[e.Instance+e.Address] {
				t.Skip("endpoints that cannot be told apart have no order")
			}
			seen[e.Instance+e.Address] = true
		}
		other := *r
		other.Local = rapid.Permutation(r.Local).Draw(t, "local order")
		other.Gateways = rapid.Permutation(r.Gateways).Draw(t, "gateway order")
		other.Identities = rapid.Permutation(r.Identities).Draw(t, "identity order")
		a, errA := Encode(r)
		b, errB := Encode(&other)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a.Cluster.Version != b.Cluster.Version || a.Endpoints.Version != b.Endpoints.Version {
			t.Fatal("another order gave another version")
		}
		if len(r.Local) > 0 {
			other.Local = slices.Clone(other.Local)
			other.Local[0].Ready = !other.Local[0].Ready
			c, err := Encode(&other)
			if err != nil {
				t.Fatal(err)
			}
			if c.Endpoints.Version == a.Endpoints.Version || c.Cluster.Version != a.Cluster.Version {
				t.Fatal("a change of readiness must give the endpoints, and only them, another version")
			}
		}
	})
}

func TestARouteThatCannotBeSaidIsAnError(t *testing.T) {
	dest := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}
	for name, r := range map[string]*mesh.Route{
		"no protocol":     {Destination: dest},
		"no port":         {Destination: dest, Protocol: mesh.TCP, Local: []mesh.Endpoint{{Instance: "a", Address: "10.0.0.1"}}},
		"port 0":          {Destination: dest, Protocol: mesh.TCP, Local: []mesh.Endpoint{{Instance: "a", Address: "10.0.0.1:0"}}},
		"no gateway host": {Destination: dest, Protocol: mesh.TCP, Gateways: []mesh.Endpoint{{Instance: "a", Address: ":15443"}}},
	} {
		if _, err := Encode(r); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestARouteOfANewerGatewayIsUnderstoodAsFarAsItIsKnown(t *testing.T) {
	r := exampleRoutes()["http"]
	e, err := Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	cluster, assignment := &clusterv3.Cluster{}, &endpointv3.ClusterLoadAssignment{}
	unmarshal(t, e.Cluster, cluster)
	unmarshal(t, e.Endpoints, assignment)
	ours := cluster.Metadata.FilterMetadata[metadataKey]
	ours.Fields[fieldProtocol] = structpb.NewStringValue("quic")
	ours.Fields["later"] = structpb.NewBoolValue(true)
	cluster.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 9999, protowire.VarintType), 1))
	cluster.LbPolicy = 77
	local := assignment.Endpoints[0]
	local.LbEndpoints[0].HealthStatus = 77
	local.LbEndpoints = append(local.LbEndpoints, &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
		Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/run/later"}}}}}})
	assignment.Endpoints = append(assignment.Endpoints, &endpointv3.LocalityLbEndpoints{Priority: 2, LbEndpoints: local.LbEndpoints})
	b1, err1 := proto.Marshal(cluster)
	b2, err2 := proto.Marshal(assignment)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b1, b2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Protocol != mesh.TCP || len(got.Local) != len(r.Local) || len(got.Gateways) != len(r.Gateways) || len(got.Identities) != len(r.Identities) {
		t.Errorf("%+v", got)
	}
	if got.Local[0].Ready {
		t.Error("an endpoint is ready of which nobody knows how it is")
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range exampleRoutes() {
		e, err := Encode(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.Cluster.Resource.Value, e.Endpoints.Resource.Value)
		f.Add(e.Endpoints.Resource.Value, e.Cluster.Resource.Value)
		f.Add(e.Cluster.Resource.Value, []byte{})
	}
	f.Fuzz(func(t *testing.T, cluster, endpoints []byte) {
		r, err := Decode(cluster, endpoints, nil)
		if err != nil {
			return
		}
		e, err := Encode(r)
		if err != nil {
			t.Fatalf("accepted, but cannot be said again: %v", err)
		}
		if _, err := Decode(e.Cluster.Resource.Value, e.Endpoints.Resource.Value, nil); err != nil {
			t.Fatalf("said again, not understood: %v", err)
		}
	})
}
