package core

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var (
	earlier = identity.Founding{At: 1_700_000_000, Key: "aa"}
	later   = identity.Founding{At: 1_750_000_000, Key: "bb"}
)

// founded is a tunnel to a gateway of a cluster that was founded then.
func founded(id mesh.GatewayID, f identity.Founding, now time.Time) Peer {
	return Peer{Gateway: id, Founding: f, Tunnel: Tunnel{Up: true, Since: now}}
}

// exporting gives c the catalog of a gateway that it has heard of.
func exporting(t *testing.T, c *Core, now time.Time, id mesh.GatewayID) {
	t.Helper()
	s, err := catalog.New(id, 7).Next([]mesh.Export{serving(id.Cluster, "shop/orders", 2)})
	if err != nil {
		t.Fatal(err)
	}
	c.Apply(now, Synced{Gateway: id, Origins: []catalog.Head{s.Head()}})
	c.Apply(now, Received{State: s, Exports: s.Exports()})
}

func TestOfTwoClustersOfOneNameTheLaterIsRefusedInWhateverOrderTheyCome(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	first, second := gw("west", "west-1"), gw("west", "other-1")
	for name, order := range map[string][]Peer{
		"the earlier comes first": {founded(first, earlier, now), founded(second, later, now)},
		"the later comes first":   {founded(second, later, now), founded(first, earlier, now)},
	} {
		c := New(Config{Self: self, Random: func(int64) int64 { return 0 }})
		c.Apply(now, Certificate{Founding: identity.Founding{At: 1, Key: "east"}})
		for i := range order {
			c.Apply(now, Tunnels(order[:i+1]))
			exporting(t, c, now, order[i].Gateway)
			c.Step(now)
		}
		x := c.View().Exports(ordersName)
		if len(x) != 1 || len(x[0].Gateways) != 1 || x[0].Gateways[0] != first || c.refused[first] != "" || !strings.Contains(c.refused[second], "another cluster is called west") {
			t.Errorf("%s: routed to %+v, refused %v", name, x, c.refused)
		}
		// The earlier one is out of reach: the name is still its own.
		down := order[0]
		if down.Gateway != first {
			down = order[1]
		}
		down.Tunnel = Tunnel{Since: now.Add(time.Second)}
		c.Apply(now, Tunnels{down, founded(second, later, now)})
		c.Step(now)
		if x := c.View().Exports(ordersName); len(x) != 1 || len(x[0].Gateways) != 0 {
			t.Errorf("%s: with the earlier one out of reach routed to %+v", name, x)
		}
		// It leaves: there is one west only.
		down.Left = true
		down.Since = now.Add(2 * time.Second)
		c.Apply(now, Tunnels{down, founded(second, later, now)})
		c.Step(now)
		if a := c.Step(now); a.View != nil {
			t.Error("a view without a change")
		}
		if x := c.View().Exports(ordersName); len(x) != 1 || len(x[0].Gateways) != 1 || x[0].Gateways[0] != second {
			t.Errorf("%s: after the earlier one has left routed to %+v, refused %v", name, x, c.refused)
		}
	}
}

func TestBothSidesOfAClusterNameSayThatThereIsAnother(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	stranger := gw("east", "other-1")
	for name, tc := range map[string]struct {
		own, theirs identity.Founding
		refused     bool
	}{"ours is earlier": {earlier, later, false}, "ours is later": {later, earlier, true}} {
		c := New(Config{Self: self, Random: func(int64) int64 { return 0 }})
		c.Apply(now, Certificate{Founding: tc.own})
		c.Apply(now, Tunnels{founded(stranger, tc.theirs, now)})
		a := c.Step(now)
		if (a.View.Refused() != "") != tc.refused || c.refused[stranger] == "" || len(a.View.LocalGateways()) != 1 {
			t.Errorf("%s: says of itself %q, of the other %q, told to sidecars %+v", name, a.View.Refused(), c.refused[stranger], a.View.LocalGateways())
		}
		said := 0
		for _, n := range a.Notes {
			if strings.Contains(n.Message, "two clusters have one name") {
				said++
			}
		}
		if said != len(c.refused) {
			t.Errorf("%s: said %d times of %d gateways", name, said, len(c.refused))
		}
	}
}

func TestGatewaysOfOneFoundingOrOfNoneKnownAreOneCluster(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := New(Config{Self: self, Random: func(int64) int64 { return 0 }})
	c.Apply(now, Certificate{Founding: earlier})
	c.Apply(now, Tunnels{founded(gw("east", "east-2"), earlier, now), founded(gw("east", "east-3"), identity.Founding{}, now),
		founded(gw("west", "west-1"), later, now), founded(gw("west", "west-2"), later, now)})
	if v := c.Step(now).View; len(c.refused) != 0 || len(v.LocalGateways()) != 3 {
		t.Errorf("refused %v", c.refused)
	}
	// west-1 has a certificate of an unrelated intermediate, then west-2 as well.
	again := identity.Founding{At: later.At + 1, Key: "cc"}
	c.Apply(now, Tunnels{founded(gw("west", "west-1"), again, now.Add(time.Second)), founded(gw("west", "west-2"), later, now)})
	if c.Step(now); c.refused[gw("west", "west-1")] == "" {
		t.Error("a gateway of an unrelated intermediate is not refused beside one of the first")
	}
	c.Apply(now, Tunnels{founded(gw("west", "west-1"), again, now.Add(time.Second)), founded(gw("west", "west-2"), again, now.Add(time.Second))})
	if c.Step(now); len(c.refused) != 0 {
		t.Errorf("all gateways of west have it now, and still: %v", c.refused)
	}
}
