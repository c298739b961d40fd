package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestServicesWithPortsAreServedAsTheShortFormWouldSayEachPort(t *testing.T) {
	s, err := LoadSidecar(write(t, `gateways: [10.0.0.5]
services:
- name: shop/orders
  instance: o-1
  export: true
  ports:
  - {port: 80, target: "127.0.0.1:8080", protocol: http, health: {path: /healthz}}
  - {port: 9000, target: "127.0.0.1:9001", protocol: grpc, export: false, timeouts: {request: 3s}}
- name: shop/stock
  weight: 5
  ports: [{port: 6379, target: "127.0.0.1:6379"}]
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	orders, stock := mesh.ServiceName{Namespace: "shop", Name: "orders"}, mesh.ServiceName{Namespace: "shop", Name: "stock"}
	connect := Timeouts{Connect: time.Second}
	want := []Served{
		{Service{Name: orders, Port: 80, Target: "127.0.0.1:8080", Protocol: mesh.HTTP, Instance: "o-1", Advertise: ":15008", Weight: 1, Export: true,
			Health: health.Check{Path: "/healthz"}.WithDefaults(), Timeouts: connect}, "services[0].ports[0]"},
		{Service{Name: orders, Port: 9000, Target: "127.0.0.1:9001", Protocol: mesh.GRPC, Instance: "o-1", Advertise: ":15008", Weight: 1,
			Health: health.Check{}.WithDefaults(), Timeouts: Timeouts{Connect: time.Second, Request: 3 * time.Second}}, "services[0].ports[1]"},
		{Service{Name: stock, Port: 6379, Target: "127.0.0.1:6379", Protocol: mesh.TCP, Instance: hostName(), Advertise: ":15008", Weight: 5,
			Health: health.Check{}.WithDefaults(), Timeouts: connect}, "services[1].ports[0]"},
	}
	if got := s.Served(); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if s.Service != nil || s.Interception.Name != "o-1" {
		t.Errorf("service %+v, interception %q", s.Service, s.Interception.Name)
	}
}

func TestEveryFaultOfServicesIsToldWithItsLineAndKey(t *testing.T) {
	path := write(t, `gateways: [10.0.0.5]
interception: {mode: ebpf}
service: {name: shop/cart, target: "127.0.0.1:1"}
services:
- name: shop/orders
  ports:
  - {port: 80, target: "127.0.0.1:8080"}
  - {port: 80, target: "127.0.0.2:8080", protocol: h2c}
  - {target: "127.0.0.1:15020", health: {interval: 1ms}}
- {name: shop/orders, instance: a, weight: 0}
- {ports: [{port: 1}]}
`)
	_, err := LoadSidecar(path, nil)
	want := `f.yaml:5: services: stands beside service: write the one that is in service into services, too, and remove service
f.yaml:8: services[0].ports[1].port: 80 is services[0].ports[0] already: remove one
f.yaml:8: services[0].ports[1].protocol: "h2c" is not spoken: write http, grpc, http2, tcp or auto
f.yaml:8: services[0].ports[1].target: port 8080 of the program is that of services[0].ports[0], too, so that it is not clear what callers past the mesh mean: write another, or interception.inbound: off
f.yaml:9: services[0].ports[2].port: is missing: write 1 to 65535
f.yaml:9: services[0].ports[2].target: 127.0.0.1:15020 is the sidecar's own listen.admin: write where the program listens
f.yaml:9: services[0].ports[2].health.interval: 1ms is out of range: write 50ms to 1h0m0s
f.yaml:10: services[1].weight: 0 is out of range: write 1 to 1000
f.yaml:10: services[1].ports: is missing: write what callers name, such as [{port: 80, target: 127.0.0.1:8080, protocol: http}]
f.yaml:10: services[1].name: shop/orders is services[0] already: write its ports there
f.yaml:11: services[2].name: is missing: write namespace/name, such as shop/orders
f.yaml:11: services[2].ports[0].target: is missing: write where the program listens, such as 127.0.0.1:8080`
	if got := faults(path, err); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	many := "gateways: [10.0.0.5]\nservices:\n- name: shop/orders\n  ports:\n"
	for range maxServed + 1 {
		many += "  - {}\n"
	}
	path = write(t, many)
	_, err = LoadSidecar(path, nil)
	if got, want := faults(path, err), "f.yaml:3: services: has 25 ports of 1 services: one sidecar serves at most 24 ports"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWhatTwoPortsSayOfOneProgramFitsTogether(t *testing.T) {
	for _, c := range []struct{ ports, want string }{
		{`[{port: 80, target: "127.0.0.1:8080", protocol: http}, {port: 81, target: "127.0.0.1:8080", protocol: grpc}]`, "services[0].ports[1].protocol"},
		{`[{port: 80, target: "127.0.0.1:8080", protocol: http2}, {port: 81, target: "127.0.0.1:8080", protocol: grpc}]`, ""},
		{`[{port: 80, target: "127.0.0.1:8080", protocol: http}, {port: 81, target: "127.0.0.1:8080", protocol: tcp}]`, ""},
		{`[{port: 80, target: "127.0.0.1:8080", protocol: http, health: {type: grpc}}]`, "services[0].ports[0].health.type"},
		{`[{port: 80, target: "127.0.0.1:8080", health: {service: a.B}}]`, "services[0].ports[0].health.type"},
		{`[{port: 80, target: "127.0.0.1:8080", protocol: grpc, health: {type: grpc}}]`, ""},
	} {
		_, err := LoadSidecar(write(t, "gateways: [10.0.0.5]\nservices:\n- {name: shop/orders, instance: o-1, ports: "+c.ports+"}\n"), nil)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want a fault of %q", c.ports, err, c.want)
		}
	}
}
