package netns

import (
	"errors"
	"fmt"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/hosts"
	"github.com/isthmus-mesh/isthmus/internal/process"
	"github.com/isthmus-mesh/isthmus/sidecar/dns"
)

var (
	east  = hosts.Network{Name: "east", Number: 1}
	west  = hosts.Network{Name: "west", Number: 2}
	north = hosts.Network{Name: "north", Number: 3}
	wan   = hosts.Network{Name: "wan", Number: 9}
)

// outside is the number of the host that east's default route leads to.
const outside = 254

// spawner starts what lives on.
var spawner = process.NewSpawner()

// host is one of the world's, or of a test.
type host struct {
	*hosts.Host
	w *world
}

// start runs argv on a host until it is killed.
func (h *host) start(name string, argv ...string) (*process.Process, error) {
	return h.Start(spawner, name, argv...)
}

// host makes a host with a cable into its cluster's network.
func (w *world) host(name string, cluster hosts.Network, number int) (*host, error) {
	made, err := hosts.New(name, cluster, number)
	if err != nil {
		return nil, err
	}
	h := &host{made, w}
	if cluster != east {
		return h, nil
	}
	if number != outside {
		return h, hosts.IP(hosts.Namespace(name), "route add default via "+east.V4(outside), "route add ::/0 via "+east.V6(outside))
	}
	for _, p := range dns.Prefixes() {
		if err := hosts.IP(hosts.Namespace(name), fmt.Sprintf("route add local %s dev lo", p)); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// resident makes a host that stays.
func (w *world) resident(name string, cluster hosts.Network, number int) (*host, error) {
	h, err := w.host(name, cluster, number)
	if err == nil {
		w.hosts = append(w.hosts, h)
	}
	return h, err
}

// guest makes a host in east for one test.
func (w *world) guest(t *testing.T, name string, number int) *host {
	t.Helper()
	h, err := w.host(name, east, number)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := h.End()
		if err != nil || t.Failed() {
			t.Log(h.Logs())
		}
		if err := errors.Join(err, h.Remove()); err != nil {
			t.Error(err)
		}
	})
	return h
}
