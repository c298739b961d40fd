package xds

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var rewrite = flag.Bool("rewrite", false, "write testdata from what the code says now")

func exampleRoutes() map[string]*mesh.Route {
	orders := mesh.ServiceName{Namespace: "shop", Name: "orders"}
	gateways := []mesh.Endpoint{
		{Instance: "east-1", Address: "10.0.0.5:15443", Ready: true, Weight: 1},
		{Instance: "east-2", Address: "10.0.0.6:15443", Weight: 1},
	}
	id := "spiffe://mesh.example/cluster/east/ns/shop/sa/orders"
	far := "spiffe://mesh.example/cluster/west/ns/shop/sa/orders"
	return map[string]*mesh.Route{
		"http": {
			Destination: mesh.Destination{Service: orders, Port: 80},
			Protocol:    mesh.HTTP,
			Local: []mesh.Endpoint{
				{Instance: "orders-2", Address: "10.0.1.8:15008", Weight: 1, Identity: id},
				{Instance: "orders-1", Address: "10.0.1.7:15008", Ready: true, Weight: 3, Identity: id},
			},
			Gateways:   gateways,
			Identities: []string{far, id},
		},
		"tcp-plain": {
			Destination: mesh.Destination{Service: orders, Port: 5432},
			Protocol:    mesh.TCP,
			Local:       []mesh.Endpoint{{Instance: "db", Address: "[fd00::7]:5432", Ready: true, Weight: 1}},
		},
		"grpc": {
			Destination: mesh.Destination{Service: orders, Port: 9000},
			Protocol:    mesh.GRPC,
			Local:       []mesh.Endpoint{{Instance: "orders-1", Address: "10.0.1.7:15008", Ready: true, Weight: 1, Identity: id}},
			Identities:  []string{id},
		},
		"auto": {
			Destination: mesh.Destination{Service: orders, Port: 9001},
			Protocol:    mesh.Auto,
			Local:       []mesh.Endpoint{{Instance: "orders-1", Address: "10.0.1.7:15008", Ready: true, Weight: 1, Identity: id}},
			Identities:  []string{id},
		},
		"pinned": {
			Destination: mesh.Destination{Service: orders, Port: 80, Cluster: "west"},
			Protocol:    mesh.HTTP,
			Gateways:    gateways,
			Identities:  []string{far},
		},
	}
}

// TestEnvoyAcceptsWhatIsEncoded applies the constraints that Envoy itself checks
// (protoc-gen-validate), and keeps the resources readable for review.
func TestEnvoyAcceptsWhatIsEncoded(t *testing.T) {
	for name, r := range exampleRoutes() {
		t.Run(name, func(t *testing.T) {
			e, err := Encode(r)
			if err != nil {
				t.Fatal(err)
			}
			cluster, endpoints := &clusterv3.Cluster{}, &endpointv3.ClusterLoadAssignment{}
			unmarshal(t, e.Cluster, cluster)
			unmarshal(t, e.Endpoints, endpoints)
			if err := cluster.ValidateAll(); err != nil {
				t.Error(err)
			}
			for _, m := range cluster.GetTransportSocketMatches() {
				config, err := m.GetTransportSocket().GetTypedConfig().UnmarshalNew()
				if err != nil {
					t.Fatal(err)
				}
				if err := config.(interface{ ValidateAll() error }).ValidateAll(); err != nil {
					t.Error(err)
				}
			}
			if err := endpoints.ValidateAll(); err != nil {
				t.Error(err)
			}
			for i, g := range endpoints.GetEndpoints() {
				if g.GetPriority() != uint32(i) {
					t.Errorf("priority %d at place %d: Envoy refuses gaps", g.GetPriority(), i)
				}
			}
			golden(t, name+".json", cluster, endpoints)
		})
	}
}

func unmarshal(t *testing.T, r *discoveryv3.Resource, into proto.Message) {
	t.Helper()
	if err := r.GetResource().UnmarshalTo(into); err != nil {
		t.Fatal(err)
	}
}

// golden compares messages with a file of testdata, as a JSON array.
func golden(t *testing.T, file string, messages ...proto.Message) {
	t.Helper()
	all := make([]any, len(messages))
	for i, m := range messages {
		b, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		// protojson varies its white space on purpose; encoding/json does not.
		if err := json.Unmarshal(b, &all[i]); err != nil {
			t.Fatal(err)
		}
	}
	got, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", file)
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (write it with go test ./internal/xds -rewrite)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test ./internal/xds -rewrite, then review); it is now:\n%s", path, got)
	}
}
