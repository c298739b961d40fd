package mesh

import (
	"strings"
	"testing"
)

func TestDestinationsReadEveryFormOfName(t *testing.T) {
	for in, want := range map[string]Destination{
		"orders.shop.mesh:80":                     {Service: ServiceName{"shop", "orders"}, Port: 80},
		"ORDERS.Shop.Mesh.:80":                    {Service: ServiceName{"shop", "orders"}, Port: 80},
		"orders.shop.west.mesh:8080":              {Service: ServiceName{"shop", "orders"}, Port: 8080, Cluster: "west"},
		"orders.shop.svc.clusterset.local:80":     {Service: ServiceName{"shop", "orders"}, Port: 80},
		"orders.shop.mesh:65535":                  {Service: ServiceName{"shop", "orders"}, Port: 65535},
		strings.Repeat("a", 63) + ".b-2.c.mesh:1": {Service: ServiceName{"b-2", strings.Repeat("a", 63)}, Port: 1, Cluster: "c"},
	} {
		got, err := ParseDestination(in)
		if err != nil || got != want {
			t.Errorf("ParseDestination(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
}

func TestNamesThatAreNotMeshNamesAreRefused(t *testing.T) {
	for _, in := range []string{
		"", ":80", "orders:80", "orders.shop.mesh", "orders.shop.mesh:0", "orders.shop.mesh:65536", "orders.shop.mesh:http",
		"mesh:80", "shop.mesh:80", "a.b.c.d.mesh:80", "orders.shop.example.com:80", "-a.shop.mesh:80", "a-.shop.mesh:80",
		"or_ders.shop.mesh:80", "orders..mesh:80", "orders.shop..mesh:80", "orders.svc.clusterset.local:80",
		"a.b.c.svc.clusterset.local:80", "[::1]:80", strings.Repeat("a", 64) + ".shop.mesh:80",
		strings.Repeat("a.", 200) + "mesh:80", "orders.shop.mesh\x00:80",
	} {
		if d, err := ParseDestination(in); err == nil {
			t.Errorf("ParseDestination(%q) = %v, want an error", in, d)
		}
	}
}

func TestTextFormsReadBackAsThemselves(t *testing.T) {
	d := Destination{Service: ServiceName{"shop", "orders"}, Port: 80, Cluster: "west"}
	var d2 Destination
	if b, _ := d.MarshalText(); d2.UnmarshalText(b) != nil || d2 != d {
		t.Errorf("destination %v came back as %v", d, d2)
	}
	d.Port = 0
	if b, _ := d.MarshalText(); d2.UnmarshalText(b) != nil || d2 != d {
		t.Errorf("destination %v came back as %v", d, d2)
	}
	g := GatewayID{"west", "west-1"}
	var g2 GatewayID
	if b, _ := g.MarshalText(); g2.UnmarshalText(b) != nil || g2 != g {
		t.Errorf("gateway %v came back as %v", g, g2)
	}
	s := ServiceName{"shop", "orders"}
	var s2 ServiceName
	if b, _ := s.MarshalText(); s2.UnmarshalText(b) != nil || s2 != s {
		t.Errorf("service %v came back as %v", s, s2)
	}
}

func TestAServerNameHasRoomForThePort(t *testing.T) {
	orders := ServiceName{"shop", "orders"}
	for in, want := range map[string]Destination{
		"orders.shop.mesh":                    {Service: orders},
		"_81.orders.shop.mesh":                {Service: orders, Port: 81},
		"_65535.Orders.shop.west.MESH.":       {Service: orders, Port: 65535, Cluster: "west"},
		"_8.orders.shop.svc.clusterset.local": {Service: orders, Port: 8},
	} {
		if got, err := ParseServerName(in); err != nil || got != want {
			t.Errorf("ParseServerName(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "_", "_.", "_81", "_81.", "_0.orders.shop.mesh", "_65536.orders.shop.mesh", "_081.orders.shop.mesh",
		"_+81.orders.shop.mesh", "_http.orders.shop.mesh", "_81._81.orders.shop.mesh", "81_.orders.shop.mesh", "_81.orders.shop.example"} {
		if d, err := ParseServerName(in); err == nil {
			t.Errorf("ParseServerName(%q) = %v, want an error", in, d)
		}
	}
	if d, err := ParseHost("_81.orders.shop.mesh"); err == nil {
		t.Errorf("a host name has a port: %v", d)
	}
}

func FuzzParseServerName(f *testing.F) {
	f.Add("_81.orders.shop.mesh")
	f.Add("orders.shop.west.mesh")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseServerName(s)
		if err != nil {
			return
		}
		again, err := ParseServerName(d.ServerName())
		if err != nil || again != d {
			t.Errorf("%q reads as %v, which reads as %v, %v", s, d, again, err)
		}
	})
}

func FuzzParseDestination(f *testing.F) {
	f.Add("orders.shop.mesh:80")
	f.Add("orders.shop.west.mesh:80")
	f.Add("orders.shop.svc.clusterset.local:80")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDestination(s)
		if err != nil {
			return
		}
		again, err := ParseDestination(d.String())
		if err != nil || again != d {
			t.Errorf("%q reads as %v, which reads as %v, %v", s, d, again, err)
		}
	})
}
