package config

import (
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestWhatDiffersBetweenTwoFilesIsNamedByKey(t *testing.T) {
	sidecar := func(change func(*Sidecar)) *Sidecar {
		s := sidecarDefaults()
		s.Service.Name = mesh.ServiceName{Namespace: "shop", Name: "orders"}
		s.Upstreams = []Upstream{{Listen: "127.0.0.1:9001"}}
		change(s)
		return s
	}
	before := sidecar(func(*Sidecar) {})
	for want, after := range map[string]*Sidecar{
		"":                      sidecar(func(*Sidecar) {}),
		"service.name":          sidecar(func(s *Sidecar) { s.Service.Name.Name = "cart" }),
		"service.health.path":   sidecar(func(s *Sidecar) { s.Service.Health.Path = "/healthz" }),
		"service":               sidecar(func(s *Sidecar) { s.Service = nil }),
		"upstreams":             sidecar(func(s *Sidecar) { s.Upstreams[0].Cluster = "west" }),
		"listen.admin":          sidecar(func(s *Sidecar) { s.Listen.Admin = "127.0.0.1:1" }),
		"service.timeouts.idle": sidecar(func(s *Sidecar) { s.Service.Timeouts.Idle = new(time.Duration) }),
		"log.level":             sidecar(func(s *Sidecar) { s.Log.Level++ }),
	} {
		var keys []string
		if want != "" {
			keys = []string{want}
		}
		if got := Changes(before, after); !slices.Equal(got, keys) {
			t.Errorf("%v, want %v", got, keys)
		}
	}
}

func TestAKeyThatFollowsFromAnotherIsNotNamedBesideIt(t *testing.T) {
	load := func(text string) *Gateway {
		g, err := LoadGateway(write(t, "cluster: west\nname: a\n"+text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	before := load("advertise: h:7443\n")
	for text, want := range map[string][]string{
		"advertise: other:7443\n":                              {"advertise"},
		"advertise: h:7443\nlisten: {mesh: ':15555'}\n":        {"listen.mesh"},
		"advertise: h:7443\nmeshAddress: h2:15443\n":           {"meshAddress"},
		"advertise: other:7443\nmeshAddress: 10.0.0.1:15443\n": {"advertise", "meshAddress"},
	} {
		if got := Changes(before, load(text)); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
