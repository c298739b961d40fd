package mesh

import (
	"reflect"
	"testing"
)

func TestAnExportCountsReadyEndpointsAndNamesWhoMayAnswer(t *testing.T) {
	s := &Service{Name: ServiceName{"shop", "orders"}, Ports: []ServicePort{{Port: 81}, {Port: 80, Protocol: HTTP, Exported: true, Endpoints: []Endpoint{
		{Instance: "a", Ready: true, Weight: 3, Identity: "spiffe://m/b"},
		{Instance: "b", Ready: true, Identity: "spiffe://m/b"},
		{Instance: "c", Weight: 7},
	}}}}
	got := ExportOf(s, "spiffe://m/a")
	want := Export{Service: s.Name, Ports: []ExportPort{{
		Port: 80, Protocol: HTTP, Ready: 2, Total: 3, Capacity: 4, Identities: []string{"spiffe://m/a", "spiffe://m/b"},
	}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ExportOf = %+v, want %+v", got, want)
	}
}

func TestPortZeroStandsForTheFirstPort(t *testing.T) {
	e := Export{Ports: []ExportPort{{Port: 80}, {Port: 443}}}
	if p, ok := e.PortNumbered(0); !ok || p.Port != 80 {
		t.Errorf("port 0 = %v, %v, want 80", p, ok)
	}
	if p, ok := e.PortNumbered(443); !ok || p.Port != 443 {
		t.Errorf("port 443 = %v, %v", p, ok)
	}
	if _, ok := e.PortNumbered(8080); ok {
		t.Error("port 8080 was found")
	}
}

func TestRoutesThatDifferInAnyFieldAreNotEqual(t *testing.T) {
	if !new(Route).Equal(&Route{Identities: []string{}}) || new(Route).Equal(&Route{Rules: []Rule{}}) {
		t.Error("nil and empty are not the same, or are for rules")
	}
	fields := reflect.TypeFor[Route]()
	for i := range fields.NumField() {
		var r Route
		switch f := reflect.ValueOf(&r).Elem().Field(i); f.Kind() {
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Map:
			f.Set(reflect.ValueOf(map[string][]Rule{"shop": nil}))
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Struct:
			f.FieldByName("Port").SetUint(1)
		default:
			t.Fatalf("%s: a kind of field that this test does not know", fields.Field(i).Name)
		}
		if r.Equal(&Route{}) || new(Route).Equal(&r) {
			t.Errorf("%s is not compared", fields.Field(i).Name)
		}
	}
}

func TestAServiceIsOutsideWhenTheMeshCannotCarryAllOfItOrHasNothingToAdd(t *testing.T) {
	plain, meshed := Endpoint{Instance: "a"}, Endpoint{Instance: "b", Identity: "spiffe://m/cluster/c/ns/shop/sa/orders"}
	ports := func(all ...Endpoint) []ServicePort { return []ServicePort{{Port: 81}, {Port: 80, Endpoints: all}} }
	for _, c := range []struct {
		of      Service
		outside bool
	}{
		{Service{Ports: ports()}, false}, // scaled to nothing: where it was it stays
		{Service{Ports: ports(meshed)}, false},
		{Service{Ports: ports(plain, meshed)}, false},
		{Service{Ports: ports(plain)}, true},
		{Service{Ports: ports(meshed), OtherPorts: true}, true},
		{Service{Ports: ports(), OtherPorts: true}, true},
	} {
		if got := c.of.Outside(); got != c.outside {
			t.Errorf("%+v: %v", c.of, got)
		}
	}
}
