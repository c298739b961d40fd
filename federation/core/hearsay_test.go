package core

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// rumour is gossip about a gateway at an address.
func rumour(id mesh.GatewayID, addr string) Gossip {
	return Gossip{Gateway: id, Alive: true, Known: true, Meta: Meta{Advertise: addr, Version: catalog.Version{Epoch: 1, Seq: 1}}}
}

func invented(cluster string, i int) mesh.GatewayID {
	return gw(mesh.ClusterName(cluster), mesh.GatewayName(fmt.Sprint("invented-", i)))
}

func TestThereIsLittleRoomForGatewaysThatOnlyGossipTellsOf(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := New(Config{Self: self, Random: func(n int64) int64 { return n - 1 }})
	for i := range 300 {
		id := invented("north", i)
		c.Apply(now, rumour(id, fmt.Sprintf("203.0.113.%d:7443", i)))
		if room := c.HasRoomFor(id) == nil; room != (i < maxClusterUnproved) {
			t.Fatalf("the %d. of a cluster: room %v", i+1, room)
		}
	}
	for cluster := range 300 {
		for i := range maxClusterUnproved {
			c.Apply(now, rumour(invented(fmt.Sprint("c", cluster), i), fmt.Sprintf("203.0.%d.%d:7443", cluster%250, i)))
		}
	}
	a := c.Step(now)
	if len(c.gateways.members) != maxUnproved || len(c.gateways.known) > 0 || len(c.origins) > 0 || len(a.Pull) > 0 {
		t.Errorf("%d members, %d known, %d origins, %d pulls", len(c.gateways.members), len(c.gateways.known), len(c.origins), len(a.Pull))
	}
	for _, g := range a.View.Gateways {
		if g.Hearsay != (g.ID != self) {
			t.Fatalf("shown is %+v", g)
		}
	}
	// Who proves itself is let in all the same.
	c.Apply(now, tunnelTo(west, true, now))
	if err := c.HasRoomFor(west); err != nil {
		t.Error(err)
	}
	c.Apply(now, rumour(west, "10.0.0.2:7443"))
	if !c.gateways.members.alive(west) {
		t.Error("a gateway with a tunnel is no member")
	}
	// Who is dead keeps the place for a while: else many names would pass through it.
	for id := range c.gateways.members {
		c.Apply(now, Gossip{Gateway: id})
	}
	if c.Step(now); len(c.gateways.members) != maxUnproved+1 || c.HasRoomFor(invented("elsewhere", 1)) == nil {
		t.Errorf("%d members, and room for more", len(c.gateways.members))
	}
	if c.Step(now.Add(unprovedDeadFor + time.Second)); len(c.gateways.members) != 1 {
		t.Errorf("%d members are kept that are dead and were never met", len(c.gateways.members))
	}
}

func TestFewAddressesOfHearsayAreDialledAtOnceAndAllInTurn(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := New(Config{Self: self, Join: joined, Random: func(n int64) int64 { return n - 1 }})
	const clusters = maxUnproved / maxClusterUnproved
	for cluster := range clusters {
		for i := range maxClusterUnproved {
			c.Apply(now, rumour(invented(fmt.Sprint("c", cluster), i), fmt.Sprintf("203.0.%d.%d:7443", cluster, i)))
		}
	}
	dialled := map[string]bool{}
	var targets []Target
	changes := 0
	for range maxUnproved / maxHints * int(hintTurn/time.Second) {
		if a := c.Step(now); a.Targets != nil {
			targets = a.Targets
			changes++
		}
		perCluster := map[mesh.ClusterName]int{}
		for _, target := range targets {
			if !target.Gateway.IsZero() {
				perCluster[target.Gateway.Cluster]++
				dialled[target.Addr] = true
			}
		}
		for cluster, n := range perCluster {
			if n > maxClusterHints {
				t.Fatalf("%d addresses of %s are dialled", n, cluster)
			}
		}
		if len(targets) > maxHints+len(joined) {
			t.Fatalf("%d addresses are dialled", len(targets))
		}
		now = now.Add(time.Second)
	}
	if len(dialled) != maxUnproved || changes != maxUnproved/maxHints {
		t.Errorf("%d of %d addresses were dialled, in %d turns", len(dialled), maxUnproved, changes)
	}
	// A few keep their places: nobody waits.
	few := New(Config{Self: self, Random: func(n int64) int64 { return n - 1 }})
	for i := range maxClusterHints {
		few.Apply(now, rumour(invented("north", i), fmt.Sprintf("203.0.113.%d:7443", i)))
	}
	if a := few.Step(now); len(a.Targets) != maxClusterHints {
		t.Errorf("%d of %d are dialled", len(a.Targets), maxClusterHints)
	}
	for range 100 {
		now = now.Add(time.Second)
		if a := few.Step(now); a.Targets != nil {
			t.Errorf("other addresses are dialled: %v", a.Targets)
		}
	}
}

func TestWhereAGatewayIsItSaysItselfAndGossipOnlyHints(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	const own, other = "10.0.0.2:7443", "203.0.113.9:7443"
	c := New(Config{Self: self, Random: func(n int64) int64 { return n - 1 }})
	c.Apply(now, tunnelTo(west, true, now))
	c.Apply(now, Synced{Gateway: west, Advertise: own})
	c.Apply(now, rumour(west, other))
	if a := c.Step(now); len(a.Targets) != 1 || a.Targets[0].Addr != own || a.View.Gateways[1].Advertise != own {
		t.Errorf("dialled is %v, shown %+v", a.Targets, a.View.Gateways)
	}
	// Perhaps it has moved: both are dialled until it answers.
	c.Apply(now, tunnelTo(west, false, now.Add(time.Second)))
	if a := c.Step(now); len(a.Targets) != 2 || a.View.Gateways[1].Advertise != own {
		t.Errorf("dialled is %v, shown %+v", a.Targets, a.View.Gateways)
	}
	if k := c.Unsaved(now).Gateways[west]; k == nil || k.Advertise != own {
		t.Errorf("kept is %+v", k)
	}
	c.Apply(now, tunnelTo(west, true, now.Add(2*time.Second)))
	c.Apply(now, Synced{Gateway: west, Advertise: other})
	if a := c.Step(now); len(a.Targets) != 1 || a.Targets[0].Addr != other {
		t.Errorf("it moved, dialled is %v", a.Targets)
	}
}

func TestGossipDoesNotSayThatAGatewayHasLeft(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c, s := start(t, now)
	a := c.Step(now)
	c.Apply(now, Received{State: s, Exports: s.Exports()})
	c.Apply(now, Pulled{Pull: a.Pull[0]})
	c.Apply(now, tunnelTo(west, false, now.Add(time.Second)))
	c.Apply(now, Gossip{Gateway: west, Known: true})
	if v := c.Step(now).View; len(v.Origins) != 1 || !v.Origins[0].Stale {
		t.Errorf("shown is %+v", v.Origins)
	}
	c.Apply(now, Tunnels{{Gateway: west, Left: true, Tunnel: Tunnel{Since: now.Add(2 * time.Second)}}})
	if v := c.Step(now).View; len(v.Origins) != 0 || len(c.gateways.known) != 0 {
		t.Errorf("it said itself that it leaves, shown is %+v", v.Origins)
	}
}

func TestAClusterMakesRoomForItsOwnGatewaysOnly(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := New(Config{Self: self, Random: func(n int64) int64 { return n - 1 }})
	c.Apply(now, tunnelTo(gw("north", "north-1"), true, now))
	for i := range 2 * maxClusterGateways { // one after the other, with certificates
		now = now.Add(time.Second)
		c.Apply(now, tunnelTo(invented("west", i), true, now))
		c.Step(now)
	}
	if _, ok := c.gateways.known[gw("north", "north-1")]; !ok || len(c.gateways.known) != 1+maxClusterGateways {
		t.Errorf("%d gateways are known, north-1 %v", len(c.gateways.known), ok)
	}
	if _, ok := c.gateways.known[invented("west", 2*maxClusterGateways-1)]; !ok {
		t.Error("the last one is not known, and those before it are out of reach")
	}
}

func TestATunnelIsAskedWhenGossipHasLostItsGateway(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c, _ := start(t, now)
	c.Step(now)
	c.Apply(now, Gossip{Gateway: west, Known: true})
	if a := c.Step(now); len(a.Doubt) != 1 || a.Doubt[0] != west {
		t.Errorf("doubts %v", a.Doubt)
	}
	if a := c.Step(now); len(a.Doubt) != 0 {
		t.Errorf("doubts %v again", a.Doubt)
	}
}

func TestOfManyPeersTenASecondAreAsked(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := New(Config{Self: self, Random: func(n int64) int64 { return n - 1 }})
	const n = 500
	var peers Tunnels
	for i := range n {
		id := gw(mesh.ClusterName(fmt.Sprint("c", i)), "g-1")
		peers = append(peers, Peer{Gateway: id, Tunnel: Tunnel{Up: true, Since: now}})
	}
	c.Apply(now, peers)
	for _, p := range peers {
		c.Apply(now, rumour(p.Gateway, ""))
	}
	asked := 0
	for range 200 * 4 {
		syncs := c.Step(now).Sync
		if len(syncs) > maxSyncs {
			t.Fatalf("%d are asked at once", len(syncs))
		}
		for _, id := range syncs {
			c.Apply(now, Synced{Gateway: id})
			asked++
		}
		now = now.Add(time.Second / 4)
	}
	if want := n + n*200/50; asked > want || asked < n*3 {
		t.Errorf("%d questions in 200 seconds, want at most %d", asked, want)
	}
}

func TestAClusterThatDoesNotAnswerKeepsNobodyElseWaiting(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := New(Config{Self: self, Random: func(n int64) int64 { return n - 1 }})
	var peers Tunnels
	for i := range 100 {
		peers = append(peers, Peer{Gateway: invented("hostile", i), Tunnel: Tunnel{Up: true, Since: now}})
	}
	peers = append(peers, Peer{Gateway: west, Tunnel: Tunnel{Up: true, Since: now}})
	c.Apply(now, peers)
	syncs := c.Step(now).Sync
	if len(syncs) != maxClusterSyncs+1 || syncs[len(syncs)-1] != west {
		t.Errorf("asked are %v", syncs)
	}
	// None of them answers in time, and each is asked in its turn.
	asked := map[mesh.GatewayID]int{}
	for range 50 {
		for _, id := range syncs {
			asked[id]++
			c.Apply(now, Synced{Gateway: id, Err: errors.New("no answer")})
		}
		now = now.Add(10 * time.Second)
		syncs = c.Step(now).Sync
	}
	if len(asked) != 101 {
		t.Errorf("%d of 101 were asked", len(asked))
	}
}
