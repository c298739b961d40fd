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
