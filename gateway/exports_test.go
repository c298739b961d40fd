package gateway

import (
	"fmt"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestOnlyExportedServicesAreTold(t *testing.T) {
	got := exportsOf([]mesh.Service{
		{Name: orders, Ports: []mesh.ServicePort{{Port: 80}, {Port: 81, Exported: true}}},
		{Name: mesh.ServiceName{Namespace: "shop", Name: "secret"}, Ports: []mesh.ServicePort{{Port: 80}}},
	}, "spiffe://m/gw")
	if len(got) != 1 || got[0].Service != orders || len(got[0].Ports) != 1 || got[0].Ports[0].Port != 81 {
		t.Errorf("exports %v, want port 81 of shop/orders only", got)
	}
	if exportsOf(nil, "") == nil {
		t.Error("nothing to export is nil: it must say nothing rather than unknown")
	}
}

func TestWhatOneNamespaceExportsPushesNoOtherOut(t *testing.T) {
	port := []mesh.ServicePort{{Port: 80, Exported: true}}
	var services []mesh.Service
	add := func(namespace string, n int, declared bool) {
		for i := range n {
			services = append(services, mesh.Service{Name: mesh.ServiceName{Namespace: namespace, Name: fmt.Sprintf("s%05d", i)}, Declared: declared, Ports: port})
		}
	}
	add("aaa", 10_000, false) // the flood
	add("bank", 3, true)
	add("shop", 5, false)
	place := map[string]int{} // of the last one of each namespace
	for i, e := range exportsOf(services, "") {
		place[e.Service.Namespace] = i
	}
	if place["bank"] != 2 {
		t.Errorf("what resources declare ends at place %d of those that fit, want 2", place["bank"])
	}
	if place["shop"] > 2+2*5 {
		t.Errorf("a namespace with five services ends at place %d behind one with 10000", place["shop"])
	}
}
