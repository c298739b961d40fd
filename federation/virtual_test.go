package federation

import (
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The tests in this file run in virtual time: durations are exact, and synctest
// fails a test that leaves a goroutine behind.

const (
	eastAddr  = "10.0.0.1:7443"
	westAddr  = "10.0.0.2:7443"
	northAddr = "10.0.0.3:7443"
)

// virtual runs a test of gateways 20 ms apart each way.
func virtual(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(20*time.Millisecond))
		// memberlist's goroutines are not waited for by its Shutdown; the slowest
		// of them looks at its queue every 30 s. Cleanups run last to first.
		t.Cleanup(func() { time.Sleep(time.Minute) })
		test(t, w)
	})
}

// three runs east, west and north, joined through east, each offering shop/orders.
func three(t *testing.T, test func(t *testing.T, w *world, east, west, north *node)) {
	t.Helper()
	virtual(t, func(t *testing.T, w *world) {
		east := w.start(plan{name: "east/east-1", addr: eastAddr})
		west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}})
		north := w.start(plan{name: "north/north-1", addr: northAddr, join: []string{eastAddr}})
		for _, n := range []*node{east, west, north} {
			n.Own().Publish([]mesh.Export{serving(n.id.Cluster, "shop/orders", 2)})
		}
		east.await("west and north", 10*time.Second, offers("shop/orders", "north", "west"))
		west.await("east and north", 10*time.Second, offers("shop/orders", "east", "north"))
		north.await("east and west", 10*time.Second, offers("shop/orders", "east", "west"))
		for _, n := range []*node{east, west, north} {
			n.await("all alive", 10*time.Second, sees(east, west, north))
		}
		test(t, w, east, west, north)
		for _, n := range []*node{east, west, north} {
			if packets, streams := testutil.ToFloat64(n.metrics.droppedMalformed), testutil.ToFloat64(n.metrics.streamsRefused); packets+streams > 0 {
				t.Errorf("%s dropped %v packets and %v streams of honest gateways", n.id, packets, streams)
			}
		}
	})
}

func TestThreeGatewaysConvergeInASecond(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		start := time.Now()
		east := w.start(plan{name: "east/east-1", addr: eastAddr})
		west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}})
		north := w.start(plan{name: "north/north-1", addr: northAddr, join: []string{eastAddr}})
		for _, n := range []*node{east, west, north} {
			n.Own().Publish([]mesh.Export{serving(n.id.Cluster, "shop/orders", 2)})
		}
		east.await("west and north", 10*time.Second, offers("shop/orders", "north", "west"))
		west.await("east and north", 10*time.Second, offers("shop/orders", "east", "north"))
		north.await("east and west", 10*time.Second, offers("shop/orders", "east", "west"))
		t.Logf("converged in %v", time.Since(start))
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("converged in %v, want at most two seconds", d)
		}
	})
}

func TestAChangeIsEverywhereWithinASecond(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 0)})
		start := time.Now()
		down := func(v *View) bool {
			for _, x := range v.Exports(mesh.ServiceName{Namespace: "shop", Name: "orders"}) {
				if x.Cluster == "west" {
					return x.Export.Ports[0].Ready == 0
				}
			}
			return false
		}
		east.await("no ready endpoint in west", 5*time.Second, down)
		north.await("no ready endpoint in west", 5*time.Second, down)
		t.Logf("everywhere in %v", time.Since(start))
		if d := time.Since(start); d > time.Second {
			t.Errorf("everywhere in %v, want at most a second", d)
		}
	})
}

func TestABurstOfChangesIsOneVersion(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		before := originOf(east.await("west-1", time.Second, sees(west)), west.id).Version
		for i := range uint32(50) {
			west.Own().Publish([]mesh.Export{serving("west", "shop/orders", i), serving("west", "shop/cart", i)})
			time.Sleep(10 * time.Millisecond)
		}
		v := east.await("the last change", 5*time.Second, func(v *View) bool {
			for _, e := range originOf(v, west.id).Records {
				if e.Ports[0].Ready != 49 {
					return false
				}
			}
			return len(originOf(v, west.id).Records) == 2
		})
		if n := originOf(v, west.id).Version.Seq - before.Seq; n != 1 {
			t.Errorf("half a second of changes made %d versions, want 1", n)
		}
	})
}

func TestAPartitionLeavesEverySideItsCatalogAndHealsInSeconds(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		w.net.partition(east, west, true)
		w.net.partition(north, west, true)
		cut := time.Now()
		east.await("west out of routing", 5*time.Second, offers("shop/orders", "north"))
		t.Logf("out of routing in %v", time.Since(cut))
		if d := time.Since(cut); d > 1500*time.Millisecond {
			t.Errorf("west was routed to for %v after the cut", d)
		}
		east.await("west dead to gossip", 10*time.Second, func(v *View) bool { return !gatewayOf(v, west.id).Alive })
		t.Logf("dead to gossip in %v", time.Since(cut))
		time.Sleep(75*time.Second - time.Since(cut))
		west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 1), serving("west", "shop/cart", 1)})
		time.Sleep(time.Second)

		v, _ := east.View()
		o := originOf(v, west.id)
		if o == nil || !o.Stale || len(o.Records) != 1 || o.Age(time.Now()) < 70*time.Second || o.Age(time.Now()) > 76*time.Second {
			t.Errorf("after 75 s east holds %+v of west, want its records with their age", o)
		}
		if v, _ := west.View(); len(v.Exports(mesh.ServiceName{Namespace: "shop", Name: "orders"})) != 2 {
			t.Errorf("west lost what it knew of the others:\n%s", show(v))
		}

		w.net.partition(east, west, false)
		w.net.partition(north, west, false)
		healed := time.Now()
		for _, n := range []*node{east, north} {
			n.await("west's newest catalog", time.Minute, offers("shop/cart", "west"))
		}
		t.Logf("healed in %v", time.Since(healed))
		if d := time.Since(healed); d > 31*time.Second {
			t.Errorf("healed in %v, want at most the tunnels' longest wait", d)
		}
		for _, n := range []*node{east, west, north} {
			v := n.await("all alive", 10*time.Second, sees(east, west, north))
			for _, o := range v.Origins {
				if o.Stale {
					n.await("nothing stale", 10*time.Second, func(v *View) bool { return !originOf(v, o.ID).Stale })
				}
			}
		}
	})
}

func TestADeadGatewayIsKeptAndMarkedUntilItIsTooOld(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		p := plan{name: "east/east-1", addr: eastAddr, state: filepath.Join(t.TempDir(), "east.db")}
		east := w.start(p)
		west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}})
		north := w.start(plan{name: "north/north-1", addr: northAddr, join: []string{eastAddr}})
		west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 2)})
		north.Own().Publish([]mesh.Export{serving("north", "shop/orders", 2)})
		east.await("west and north", 10*time.Second, offers("shop/orders", "north", "west"))
		east.await("all alive", 10*time.Second, sees(east, west, north))
		north.await("west", 10*time.Second, offers("shop/orders", "west"))

		w.net.unplug(west)
		west.end()
		east.await("west out of routing", 5*time.Second, offers("shop/orders", "north"))
		v := east.await("west dead", 10*time.Second, func(v *View) bool { return !gatewayOf(v, west.id).Alive })
		if o := originOf(v, west.id); o == nil || !o.Stale || len(o.Records) != 1 {
			t.Errorf("east holds %+v of the dead gateway", o)
		}
		// The days between have nothing to show, and cost the test its time.
		east.end()
		long := time.Now().Add(-72*time.Hour + time.Minute)
		st, err := openStore(p.state, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := st.save(&changes{Confirmed: map[mesh.GatewayID]time.Time{west.id: long}, Gateways: map[mesh.GatewayID]*core.KnownGateway{west.id: {Advertise: westAddr, Seen: long}}}); err != nil {
			t.Fatal(err)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		east = w.start(p)
		if v := east.await("the state file", time.Second, func(v *View) bool { return originOf(v, west.id) != nil }); !originOf(v, west.id).Stale {
			t.Error("what the state file held of a dead gateway is not stale")
		}
		east.await("west forgotten", 2*time.Minute, func(v *View) bool { return originOf(v, west.id) == nil })
		// North still has it; east is not to be given it again.
		time.Sleep(time.Minute)
		if v, _ := east.View(); originOf(v, west.id) != nil || gatewayOf(v, north.id) == nil {
			t.Errorf("what was forgotten came back from another:\n%s", show(v))
		}
		if v, _ := north.View(); originOf(v, west.id) == nil {
			t.Error("north does not have it: the test shows nothing")
		}
	})
}

func TestLeavingIsSeenEverywhereAtOnceAndDyingIsNot(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		start := time.Now()
		west.leave()
		gone := func(v *View) bool { return gatewayOf(v, west.id) == nil && originOf(v, west.id) == nil }
		east.await("west gone", time.Second, gone)
		north.await("west gone", time.Second, gone)
		t.Logf("gone in %v", time.Since(start))
		time.Sleep(time.Minute)
		for _, n := range []*node{east, north} {
			if v, _ := n.View(); !gone(v) {
				t.Errorf("%s knows west again:\n%s", n.id, show(v))
			}
		}
	})
}

func TestOneLinkDownIsNoReasonToForgetAnybody(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		w.net.partition(east, west, true)
		east.await("west out of routing", 5*time.Second, offers("shop/orders", "north"))
		west.Own().Publish([]mesh.Export{serving("west", "shop/cart", 1)})
		// North tells: the catalog travels by a third gateway, the traffic does not.
		v := east.await("west's change through north", 30*time.Second, func(v *View) bool {
			o := originOf(v, west.id)
			return o != nil && len(o.Records) == 1 && o.Records[0].Service.Name == "cart"
		})
		if x := v.Exports(mesh.ServiceName{Namespace: "shop", Name: "cart"}); len(x) != 1 || len(x[0].Gateways) != 0 {
			t.Errorf("cart is %+v, want west listed and not reachable", x)
		}
		if g := gatewayOf(v, west.id); g == nil || !g.Alive {
			t.Errorf("gossip took west-1 for dead although north reaches it: %+v", g)
		}
	})
}

func TestALostStateFileAndAClockSetBackAreSurvived(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		east := w.start(plan{name: "east/east-1", addr: eastAddr})
		p := plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}}
		west := w.start(p)
		// Its first epoch is of a clock that was an hour ahead.
		west.Own().update(func(s *catalog.State) (*catalog.State, error) { return s.At(s.Head().Version.Epoch + 3_600_000) })
		west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 2)})
		east.await("orders", 10*time.Second, offers("shop/orders", "west"))
		west.end()
		west = w.start(p)
		west.Own().Publish([]mesh.Export{serving("west", "shop/cart", 2)})
		east.await("what west says now", time.Minute, offers("shop/cart", "west"))
	})
}

func TestTwoGatewaysOfAClusterAreOneOffer(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		east := w.start(plan{name: "east/east-1", addr: eastAddr})
		west1 := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}})
		west2 := w.start(plan{name: "west/west-2", addr: northAddr, join: []string{eastAddr}})
		west1.Own().Publish([]mesh.Export{serving("west", "shop/orders", 0)})
		west2.Own().Publish([]mesh.Export{serving("west", "shop/orders", 2)})
		orders := mesh.ServiceName{Namespace: "shop", Name: "orders"}
		v := east.await("both", 10*time.Second, func(v *View) bool {
			x := v.Exports(orders)
			return len(x) == 1 && len(x[0].Gateways) == 2
		})
		if x := v.Exports(orders)[0]; x.Export.Ports[0].Ready != 2 {
			t.Errorf("west offers %+v: want what the gateway says that sees the ready endpoints", x)
		}
		if l := west1.await("its sibling", 10*time.Second, sees(west2)).LocalGateways(); len(l) != 2 {
			t.Errorf("local gateways of west: %+v", l)
		}
	})
}

func TestTwoMeshesBecomeOne(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		east := w.start(plan{name: "east/east-1", addr: eastAddr})
		p := plan{name: "west/west-1", addr: westAddr, state: filepath.Join(t.TempDir(), "west.db")}
		west := w.start(p)
		time.Sleep(time.Second)
		west.end()
		p.join = []string{eastAddr}
		west = w.start(p)
		east.await("west", 10*time.Second, sees(west))
		west.await("east", 10*time.Second, sees(east))
		time.Sleep(time.Minute)
		if v, _ := east.View(); !sees(west)(v) {
			t.Errorf("not one mesh a minute later:\n%s", show(v))
		}
	})
}

func TestTwoGatewaysThatNameEachOtherMeet(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		east := w.start(plan{name: "east/east-1", addr: eastAddr, join: []string{westAddr}})
		west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}})
		east.Own().Publish([]mesh.Export{serving("east", "shop/orders", 2)})
		west.await("orders", 10*time.Second, offers("shop/orders", "east"))
		east.await("west", 10*time.Second, sees(west))
		west.await("east", 10*time.Second, sees(east))
	})
}

func TestAGatewayThatRestartsElsewhereIsFollowed(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		w.net.unplug(west)
		west.end()
		west = w.start(plan{name: "west/west-1", addr: "10.0.0.9:7443", join: []string{eastAddr}})
		west.Own().Publish([]mesh.Export{serving("west", "shop/cart", 2)})
		for _, n := range []*node{east, north} {
			n.await("cart", 30*time.Second, offers("shop/cart", "west"))
			n.await("west-1 at its new address", 30*time.Second, func(v *View) bool {
				return sees(west)(v) && gatewayOf(v, west.id).Advertise == west.addr
			})
		}
	})
}
