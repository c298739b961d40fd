package core

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestARestartedGatewayAwaitsThoseItRemembersUntilItMeetsOneOrTenMinutes(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s, err := catalog.New(west, 7).Next([]mesh.Export{serving("west", "shop/orders", 2)})
	if err != nil {
		t.Fatal(err)
	}
	floor := SavedOrigin{Floor: s.Head().Version}
	held := SavedOrigin{Floor: s.Head().Version, State: s, Exports: s.Exports()}
	for name, c := range map[string]struct {
		held  map[mesh.GatewayID]SavedOrigin
		left  time.Duration
		known map[mesh.GatewayID]KnownGateway
		want  bool
	}{
		"no memory":           {},
		"a catalog":           {held: map[mesh.GatewayID]SavedOrigin{west: held}, left: 48 * time.Hour, want: true},
		"an address":          {known: map[mesh.GatewayID]KnownGateway{west: {Advertise: "10.0.0.2:7443", Seen: now}}, want: true},
		"one that has left":   {held: map[mesh.GatewayID]SavedOrigin{west: floor}, left: 59 * time.Minute, want: true},
		"one that left today": {held: map[mesh.GatewayID]SavedOrigin{west: floor}, left: 2 * time.Hour},
		"only itself":         {held: map[mesh.GatewayID]SavedOrigin{self: floor}, known: map[mesh.GatewayID]KnownGateway{self: {Seen: now}}},
	} {
		t.Run(name, func(t *testing.T) {
			restarted := func() *Core {
				core := New(Config{Self: self, Random: func(n int64) int64 { return n - 1 }})
				in := Restored{Epoch: 9, Origins: c.held, Gateways: c.known, Confirmed: map[mesh.GatewayID]time.Time{}}
				for id := range c.held {
					in.Confirmed[id] = now.Add(-c.left)
				}
				core.Apply(now, in)
				return core
			}
			core := restarted()
			if v := core.Step(now).View; v.Awaiting != c.want {
				t.Fatalf("awaits: %v, want %v", v.Awaiting, c.want)
			}
			core.Step(now.Add(awaitFor - time.Nanosecond))
			if core.View().Awaiting != c.want {
				t.Error("too soon it awaits nobody any more")
			}
			if v := core.Step(now.Add(awaitFor)).View; core.View().Awaiting || c.want && (v == nil || v.Awaiting) {
				t.Error("it awaits them for ever, or nobody is told that it does not")
			}

			core = restarted()
			north, err := catalog.New(gw("north", "north-1"), 3).Next(nil)
			if err != nil {
				t.Fatal(err)
			}
			h := north.Head()
			core.Apply(now, tunnelTo(h.Origin, true, now))
			core.Apply(now, Synced{Gateway: h.Origin, Origins: []catalog.Head{h}, Advertise: "10.0.0.3:7443"})
			if v := core.Step(now).View; v.Awaiting != c.want {
				t.Error("who is alive has not said yet what it offers")
			}
			core.Apply(now, Received{State: north})
			if v := core.Step(now).View; v.Awaiting {
				t.Error("it has met one, and awaits them still")
			}
		})
	}
}
