package core

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var west = gw("west", "west-1")

// start returns a core with a tunnel to west-1, which says by gossip that it is at
// its first version.
func start(t *testing.T, now time.Time) (*Core, *catalog.State) {
	t.Helper()
	s, err := catalog.New(west, 7).Next([]mesh.Export{serving("west", "shop/orders", 2)})
	if err != nil {
		t.Fatal(err)
	}
	c := New(Config{Self: self, Random: func(n int64) int64 { return n - 1 }})
	c.Apply(now, tunnelTo(west, true, now))
	c.Apply(now, Gossip{Gateway: west, Alive: true, Known: true, Meta: Meta{Version: s.Head().Version, Digest: s.Head().Digest, Advertise: "10.0.0.2:7443"}})
	return c, s
}

func tunnelTo(id mesh.GatewayID, up bool, since time.Time) Tunnels {
	return Tunnels{{Gateway: id, Tunnel: Tunnel{Up: up, Since: since}}}
}

func TestAPullThatFailsIsTriedAgainLaterAndLater(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c, _ := start(t, now)
	for _, want := range []time.Duration{0, 1, 2, 4, 8, 16, 30, 30} {
		due := now.Add(want * time.Second)
		if want > 0 {
			if a := c.Step(due.Add(-time.Nanosecond)); len(a.Pull) != 0 {
				t.Fatalf("tried again before %v", want*time.Second)
			}
		}
		a := c.Step(due)
		if len(a.Pull) != 1 || a.Pull[0].Origin != west {
			t.Fatalf("pulls %+v after %v", a.Pull, want*time.Second)
		}
		now = due
		c.Apply(now, Pulled{Pull: a.Pull[0], Failed: true})
	}
	c.Apply(now, tunnelTo(west, true, now)) // it has restarted: the origin itself can be asked
	if a := c.Step(now); len(a.Pull) != 1 {
		t.Errorf("pulls %+v with a new tunnel to the origin", a.Pull)
	}
}

func TestAnAnnouncementThatTheOriginDeniesIsPulledOnce(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c, s := start(t, now)
	a := c.Step(now)
	c.Apply(now, Received{State: s, Exports: s.Exports()})
	c.Apply(now, Pulled{Pull: a.Pull[0]})
	c.Apply(now, Synced{Gateway: west, Origins: []catalog.Head{{Origin: west, Version: catalog.Version{Epoch: 99, Seq: 1}}}})
	a = c.Step(now)
	if len(a.Pull) != 1 {
		t.Fatalf("pulls %+v", a.Pull)
	}
	c.Apply(now, Pulled{Pull: a.Pull[0], Is: &a.Pull[0].Have})
	if a := c.Step(now.Add(time.Hour)); len(a.Pull) != 0 {
		t.Errorf("pulls %+v, although west-1 says that there is nothing", a.Pull)
	}
}

func TestADeadGatewayIsForgottenAfterThreeDaysAndItsFloorAfterAMonth(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c, s := start(t, now)
	a := c.Step(now)
	c.Apply(now, Received{State: s, Exports: s.Exports()})
	c.Apply(now, Pulled{Pull: a.Pull[0]})
	c.Step(now)
	c.Apply(now, tunnelTo(west, false, now))
	c.Apply(now, Gossip{Gateway: west, Known: true, Meta: Meta{Version: s.Head().Version, Digest: s.Head().Digest}})
	if v := c.Step(now).View; len(v.Origins) != 1 || !v.Origins[0].Stale || len(v.Exports(ordersName)[0].Gateways) != 0 {
		t.Fatalf("shows %+v of the dead gateway", v.Origins)
	}
	if c.Step(now.Add(staleAfter)); len(c.View().Origins) != 1 {
		t.Error("forgotten too early")
	}
	now = now.Add(staleAfter + time.Second)
	if c.Step(now); len(c.View().Origins) != 0 || len(c.gateways.known) != 0 {
		t.Error("not forgotten")
	}
	c.Apply(now, Received{State: s, Exports: s.Exports()})
	if held, _ := c.Held(west); held != nil {
		t.Error("what was forgotten came back")
	}
	if c.Step(now.Add(floorAfter)); c.origins[west] != nil {
		t.Error("the floor is kept for ever")
	}
}

func TestANewerCatalogOfOursMovesTheEpochOncePerInterval(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c, _ := start(t, now)
	newer := Synced{Gateway: west, Origins: []catalog.Head{{Origin: self, Version: catalog.Version{Epoch: 9, Seq: 3}}}}
	for _, want := range []struct {
		after time.Duration
		move  mesh.GatewayID
	}{{0, west}, {epochMoveInterval - 1, mesh.GatewayID{}}, {epochMoveInterval, west}} {
		c.Apply(now.Add(want.after), newer)
		if a := c.Step(now.Add(want.after)); a.MoveEpoch != want.move {
			t.Errorf("after %v: moves because of %v, want %v", want.after, a.MoveEpoch, want.move)
		}
	}
	s, err := catalog.New(self, 10).Next(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Apply(now, Signed{Was: c.Own().State, Now: Own{State: s}})
	c.Apply(now.Add(time.Hour), newer)
	if a := c.Step(now.Add(time.Hour)); !a.MoveEpoch.IsZero() {
		t.Error("moves although its own catalog is newer")
	}
}

func TestOnlyTheNextVersionOfTheOwnCatalogIsTaken(t *testing.T) {
	c := New(Config{Self: self})
	first, second := catalog.New(self, 1), catalog.New(self, 2)
	was := c.Own().State
	c.Apply(time.Time{}, Signed{Was: was, Now: Own{State: first}})
	c.Apply(time.Time{}, Signed{Was: was, Now: Own{State: second}})
	if c.Own().State != first {
		t.Error("a version that was made from an older one replaced a newer one")
	}
}

func TestWhatTheTunnelMeasuresIsNoReasonForANewView(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c, s := start(t, now)
	a := c.Step(now)
	c.Apply(now, Received{State: s, Exports: s.Exports()})
	c.Apply(now, Pulled{Pull: a.Pull[0]})
	c.Step(now)
	again := tunnelTo(west, true, now)
	again[0].Addr, again[0].LastErr = "10.0.0.9:7443", "a conn of several has ended"
	c.Apply(now, again)
	c.Apply(now, Gossip{Gateway: west, Alive: true, Known: true, Meta: Meta{Version: s.Head().Version, Digest: s.Head().Digest, Advertise: "10.0.0.2:7443"}})
	if a := c.Step(now); a.View != nil {
		t.Error("a new view")
	}
	for name, in := range map[string]Input{
		"a new tunnel":    tunnelTo(west, true, now.Add(time.Second)),
		"none":            tunnelTo(west, false, now.Add(2*time.Second)),
		"dead by gossip":  Gossip{Gateway: west, Known: true, Meta: Meta{Version: s.Head().Version, Digest: s.Head().Digest, Advertise: "10.0.0.2:7443"}},
		"another gateway": tunnelTo(gw("north", "north-1"), true, now),
		"a member comes":  Gossip{Gateway: gw("south", "south-1"), Alive: true},
		"it says where":   Gossip{Gateway: gw("south", "south-1"), Alive: true, Known: true, Meta: Meta{Advertise: "10.0.0.3:7443"}},
		"it says no more": Tunnels{},
	} {
		c.Apply(now, in)
		if c.Step(now).View == nil {
			t.Errorf("%s: no new view", name)
		}
	}
}

func TestWhoIsAliveAndNotReachedIsDialledEveryFewSecondsAFewAtATime(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := New(Config{Self: self})
	const n = 3*maxRedials - 1
	var met Tunnels
	for i := range n {
		met = append(met, Peer{Gateway: gw("north", mesh.GatewayName(fmt.Sprint("north-", i))), Tunnel: Tunnel{Up: true, Since: now}})
	}
	c.Apply(now, met)
	c.Apply(now, Tunnels{}) // long ago
	for i := range n {
		c.Apply(now, Gossip{Gateway: gw("north", mesh.GatewayName(fmt.Sprint("north-", i))), Alive: true})
	}
	if a := c.Step(now); len(a.Redial) != 0 {
		t.Errorf("dials %v at once: their first dial is on its way", a.Redial)
	}
	now = now.Add(redialInterval)
	for round := range 3 {
		dialled := map[mesh.GatewayID]bool{}
		for range 4 * redialInterval / time.Second {
			a := c.Step(now)
			if len(a.Redial) > maxRedials || len(c.Step(now).Redial) > 0 {
				t.Errorf("%d dials at once, or more in the same second", len(a.Redial))
			}
			for _, id := range a.Redial {
				dialled[id] = true
			}
			now = now.Add(redialPause / 4)
		}
		if len(dialled) != n {
			t.Errorf("round %d: %d of %d were dialled", round, len(dialled), n)
		}
	}
	c.Apply(now, Gossip{Gateway: gw("north", "north-0")})
	c.Apply(now, Tunnels{{Gateway: gw("north", "north-1"), Tunnel: Tunnel{Up: true, Since: now}}})
	for range n {
		now = now.Add(redialPause)
		for _, id := range c.Step(now).Redial {
			if id.Name == "north-0" || id.Name == "north-1" {
				t.Errorf("%v is dialled, which is dead or connected", id)
			}
		}
	}
}

func TestAnOutageOfSyncsIsOneLineAndItsEndAnother(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c, _ := start(t, now)
	c.Step(now)
	refused, frozen := errors.New("refused"), errors.New("frozen")
	for i, s := range []struct {
		after time.Duration
		err   error
		lines int
	}{
		{0, nil, 0},
		{time.Second, refused, 1},
		{time.Second, refused, 0},
		{time.Second, frozen, 0}, // too soon
		{time.Hour, refused, 0},
		{time.Second, frozen, 1},
		{time.Second, nil, 1},
		{time.Second, nil, 0},
		{time.Second, frozen, 1},
	} {
		now = now.Add(s.after)
		c.Apply(now, Synced{Gateway: west, Err: s.err})
		if a := c.Step(now); len(a.Notes) != s.lines {
			t.Errorf("sync %d is %d lines: %v", i, len(a.Notes), a.Notes)
		}
	}
}
