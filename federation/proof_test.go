package federation

import (
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/federation/gossip"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A gateway of west gossips. It must not be able to have east's
// sidecars send their traffic to it by inventing a gateway of east.
func TestGossipDoesNotSayWhereSidecarsSendTheirTraffic(t *testing.T) {
	f := idle(t, identitytest.New(t, "mesh.example"))
	invented := mesh.GatewayID{Cluster: "east", Name: "east-9"}
	meta := encodeMeta(core.Meta{Advertise: "203.0.113.9:7443"})
	meta = append(meta, 18)
	meta = append(meta, "203.0.113.9:15443 "...)
	n := &memberlist.Node{Name: gossip.NodeName(invented), Addr: gossip.NodeAddr(invented), Port: gossip.Port, Meta: meta}
	d := delegate{f}
	if err := d.NotifyAlive(n); err != nil {
		t.Fatal(err)
	}
	d.NotifyJoin(n)
	local := func() []core.Gateway {
		var v *View
		f.core.with(func(c *core.Core) { v = c.View() })
		return v.LocalGateways()
	}
	for _, g := range local() {
		if g.ID == invented && g.MeshAddress != "" {
			t.Errorf("sidecars are sent to %+v", g)
		}
	}
	// What it says itself, over a tunnel, is believed; and a later rumour changes nothing.
	f.core.apply(core.Tunnels{{Gateway: invented, Tunnel: core.Tunnel{Up: true, Since: time.Now()}}})
	f.core.apply(core.Synced{Gateway: invented, MeshAddress: "10.0.0.9:15443"})
	d.NotifyUpdate(n)
	for _, g := range local() {
		if g.ID == invented && g.MeshAddress != "10.0.0.9:15443" {
			t.Errorf("it said 10.0.0.9:15443 itself, sidecars are sent to %+v", g)
		}
	}
}
