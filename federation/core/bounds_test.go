package core

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// told has a peer list heads.
func told(from mesh.GatewayID, heads ...catalog.Head) Synced {
	return Synced{Gateway: from, Origins: heads}
}

func headOf(id mesh.GatewayID, epoch uint64) catalog.Head {
	return catalog.Head{Origin: id, Version: catalog.Version{Epoch: epoch, Seq: 1}}
}

// meeting returns a core with tunnels to gateways.
func meeting(now time.Time, ids ...mesh.GatewayID) *Core {
	c := New(Config{Self: self, Random: func(n int64) int64 { return n - 1 }})
	var all Tunnels
	for _, id := range ids {
		all = append(all, Peer{Gateway: id, Tunnel: Tunnel{Up: true, Since: now}})
	}
	c.Apply(now, all)
	return c
}

func TestNoPeerIsAskedForTwoCatalogsAtATimeAndNoClusterForMany(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	evil := []mesh.GatewayID{gw("evil", "e-1"), gw("evil", "e-2"), gw("evil", "e-3"), gw("evil", "e-4")}
	c := meeting(now, append(evil, west)...)
	// All of evil's announce themselves, and more that only they know of, before west has anything.
	for _, id := range evil {
		var heads []catalog.Head
		for i := range 50 {
			heads = append(heads, headOf(gw("evil", mesh.GatewayName(fmt.Sprintf("made-up-%d", i))), 7))
		}
		c.Apply(now, told(id, append(heads, headOf(id, 7))...))
	}
	pulls := c.Step(now).Pull
	asked := map[mesh.GatewayID]bool{}
	for _, p := range pulls {
		if asked[p.From[0]] {
			t.Errorf("%s is asked for two catalogs", p.From[0])
		}
		asked[p.From[0]] = true
	}
	if len(pulls) != maxClusterPulls {
		t.Errorf("%d pulls from one cluster, want %d", len(pulls), maxClusterPulls)
	}
	// They never answer. West's is fetched all the same.
	c.Apply(now, told(west, headOf(west, 7)))
	if pulls = c.Step(now).Pull; len(pulls) != 1 || pulls[0].Origin != west || pulls[0].From[0] != west {
		t.Errorf("pulls %+v, want that of west", pulls)
	}
}

func TestNamesThatAreMadeUpTakeNobodysRoom(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	evil := gw("evil", "e-1")
	c := meeting(now, evil, west)
	lie := func(cluster, n int) catalog.Head {
		return headOf(gw(mesh.ClusterName(fmt.Sprintf("c%d", cluster)), mesh.GatewayName(fmt.Sprintf("g%d", n))), 7)
	}
	for n := range 2 * MaxGateways {
		c.Apply(now, told(evil, lie(n/40, n)))
	}
	if n := len(c.origins); n > maxTold {
		t.Errorf("%d gateways are known by the word of one cluster, want at most %d", n, maxTold)
	}
	for n := range 1000 { // of its own cluster
		c.Apply(now, told(evil, headOf(gw("evil", mesh.GatewayName(fmt.Sprintf("g%d", n))), 7)))
	}
	of := 0
	for id := range c.origins {
		if id.Cluster == "evil" {
			of++
		}
	}
	if of > maxClusterOrigins {
		t.Errorf("%d gateways of one cluster are known, want at most %d", of, maxClusterOrigins)
	}
	c.Apply(now, told(west, headOf(west, 7)))
	if c.origins[west] == nil {
		t.Error("there is no room for who is there")
	}
}

func TestWhatHasSaidSomethingIsNotPushedOutByMoreOfItsCluster(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c, s := start(t, now)
	c.Step(now)
	c.Apply(now, Received{State: s, Exports: s.Exports()})
	for n := range 3 * maxClusterOrigins {
		c.Apply(now, told(west, headOf(gw("west", mesh.GatewayName(fmt.Sprintf("a%d", n))), 7)))
	}
	if o := c.origins[west]; o == nil || o.state == nil {
		t.Error("a gateway is forgotten for names that its cluster made up")
	}
}

func TestTheCatalogsOfOneClusterAreBoundedTogether(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	port := mesh.ExportPort{Port: 80, Protocol: mesh.TCP}
	for range 30 {
		port.Identities = append(port.Identities, strings.Repeat("x", 1900))
	}
	var big []mesh.Export
	for i := range 200 {
		big = append(big, mesh.Export{Service: mesh.ServiceName{Namespace: "n", Name: fmt.Sprintf("s%d", i)}, Ports: []mesh.ExportPort{port}})
	}
	var ids []mesh.GatewayID
	for i := range 6 {
		ids = append(ids, gw("evil", mesh.GatewayName(fmt.Sprintf("e-%d", i))))
	}
	c := meeting(now, append(ids, west)...)
	held := 0
	for _, id := range ids {
		s, err := catalog.New(id, 7).Next(big)
		if err != nil || s.Size() < catalog.MaxStateBytes*4/5 {
			t.Fatalf("%d bytes, %v", s.Size(), err)
		}
		c.Apply(now, told(id, s.Head()))
		pulls := c.Step(now).Pull
		if len(pulls) != 1 {
			t.Fatalf("pulls %+v", pulls)
		}
		c.Apply(now, Received{State: s})
		c.Apply(now, Pulled{Pull: pulls[0]})
		if c.origins[id].state != nil {
			held += s.Size()
		} else if a := c.Step(now); len(a.Pull) != 0 {
			t.Error("what is too much is fetched again at once")
		}
	}
	if held == 0 || held > maxClusterBytes {
		t.Errorf("%d bytes of one cluster are held, want at most %d", held, maxClusterBytes)
	}
	small, err := catalog.New(west, 7).Next([]mesh.Export{serving("west", "shop/orders", 2)})
	if err != nil {
		t.Fatal(err)
	}
	c.Apply(now, told(west, small.Head()))
	c.Apply(now, Received{State: small})
	if c.origins[west].state == nil {
		t.Error("another cluster has no room")
	}
}

func TestAnEpochOfTheFutureIsNotLookedAt(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := meeting(now, west)
	soon, late := uint64(now.Add(MaxAhead-time.Minute).UnixMilli()), uint64(now.Add(MaxAhead+time.Minute).UnixMilli())
	for _, epoch := range []uint64{late, 1 << 63, 1<<64 - 1} {
		c.Apply(now, told(west, headOf(west, epoch), headOf(self, epoch)))
		if a := c.Step(now); len(a.Pull) != 0 || !a.MoveEpoch.IsZero() {
			t.Errorf("epoch %d: pulls %+v, moves because of %v", epoch, a.Pull, a.MoveEpoch)
		}
	}
	c.Apply(now, told(west, headOf(west, soon)))
	if a := c.Step(now); len(a.Pull) != 1 {
		t.Errorf("a clock that is some hours ahead: pulls %+v", a.Pull)
	}
}
