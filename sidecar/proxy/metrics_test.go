package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

func TestAListenerHasNoSeriesOfWhatItDoesNotDo(t *testing.T) {
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	set := upstream.New(upstream.Config{Identity: w.caller, Cluster: "east"})
	t.Cleanup(set.Close)
	if err := set.Register(registry); err != nil {
		t.Fatal(err)
	}
	store := routes.NewStore(set.Update, nil)
	store.Replace([]*mesh.Route{route(mesh.HTTP, plainAt("a", w.program(http.HandlerFunc(echoBody))))}, nil)
	p, err := New(Config{
		Identity: w.caller, Routes: store, Upstreams: set, Log: w.log, Metrics: registry,
		Explicit: []Explicit{{Listen: "127.0.0.1:0", Destination: dest}},
		Inbound:  &Inbound{Listen: "127.0.0.1:0", Ports: []Served{{Service: orders, Port: 80, Target: w.refusing(), Protocol: mesh.HTTP}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.run(p)
	if code, said := ask(t, explicitAddr(p).String(), "POST"); code != 200 {
		t.Fatalf("%d %s", code, said)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if strings.Contains(f.GetName(), "tcp") || strings.Contains(f.GetName(), "refused") || strings.Contains(f.GetName(), "relayed") ||
				m.GetCounter() != nil && m.GetCounter().GetValue() == 0 {
				t.Errorf("%s %v is there and has not happened", f.GetName(), m.GetLabel())
			}
			for _, l := range m.GetLabel() {
				if l.GetValue() == "" {
					t.Errorf("%s: label %s is empty", f.GetName(), l.GetName())
				}
			}
		}
	}
}
