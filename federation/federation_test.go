package federation

import (
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The tests in this file use real sockets on loopback. They mostly wait, and so
// run beside each other.

const soon = time.Minute // a bound for a loaded machine, not a measure

func TestThreeGatewaysConvergeFromOneJoinAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	east := w.start(plan{name: "east/east-1"})
	west := w.start(plan{name: "west/west-1", join: []string{east.addr}})
	north := w.start(plan{name: "north/north-1", join: []string{east.addr}})
	for _, n := range []*node{east, west, north} {
		n.Own().Publish([]mesh.Export{serving(n.id.Cluster, "shop/orders", 2)})
	}
	east.await("all gateways", soon, sees(east, west, north))
	west.await("all gateways", soon, sees(east, west, north))
	north.await("all gateways", soon, sees(east, west, north))
	east.await("orders in west and north", soon, offers("shop/orders", "north", "west"))
	west.await("orders in east and north", soon, offers("shop/orders", "east", "north"))
	v := north.await("orders in east and west", soon, offers("shop/orders", "east", "west"))

	if g := gatewayOf(v, west.id); g.Advertise != west.addr {
		t.Errorf("north knows west-1 as %+v", g)
	}
	north.await("what west-1 says of itself", soon, func(v *View) bool { return gatewayOf(v, west.id).MeshAddress == "10.1.1.1:15443" })
	if s := v.Services(); len(s) != 1 || s[0].String() != "shop/orders" {
		t.Errorf("services %v", s)
	}
	if x := v.Exports(v.Services()[0])[0]; x.Export.Ports[0].Ready != 2 || len(x.Gateways) != 1 || !gatewayOf(v, x.Gateways[0]).Tunnel.Up {
		t.Errorf("east offers %+v", x)
	}
}

func TestAChangeAndARemovalReachTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	east := w.start(plan{name: "east/east-1"})
	west := w.start(plan{name: "west/west-1", join: []string{east.addr}})
	west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 2), serving("west", "shop/cart", 1)})
	east.await("orders", soon, offers("shop/orders", "west"))
	west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 1)})
	v := east.await("cart gone", soon, offers("shop/cart"))
	if x := v.Exports(mesh.ServiceName{Namespace: "shop", Name: "orders"}); len(x) != 1 || x[0].Export.Ports[0].Ready != 1 {
		t.Errorf("orders became %+v", x)
	}
	if o := originOf(v, west.id); o.Version.Seq != 2 || o.Stale {
		t.Errorf("west-1's catalog is %+v, want its second version", o)
	}
}

func TestAGatewayRestartedWithItsStateIsBelievedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	dir := t.TempDir()
	east := w.start(plan{name: "east/east-1", state: filepath.Join(dir, "east.db")})
	p := plan{name: "west/west-1", join: []string{east.addr}, state: filepath.Join(dir, "west.db")}
	west := w.start(p)
	west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 2), serving("west", "shop/cart", 1)})
	before := originOf(east.await("cart", soon, offers("shop/cart", "west")), west.id)

	west.end()
	p.addr = west.addr
	west = w.start(p)
	// It has not said anything in its new epoch: what it said before stands.
	v := east.await("west-1 back", soon, sees(west))
	if o := originOf(v, west.id); o == nil || o.Version != before.Version {
		t.Errorf("before it publishes, its catalog is %+v, want %s", o, before.Version)
	}
	west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 2)})
	v = east.await("a new epoch", soon, func(v *View) bool {
		o := originOf(v, west.id)
		return o != nil && o.Version.Epoch > before.Version.Epoch && !o.Stale
	})
	if !offers("shop/cart")(v) || !offers("shop/orders", "west")(v) {
		t.Errorf("the new epoch did not retire the old one's records:\n%s", show(v))
	}
}

func TestARestartAloneKnowsWhatItKnewAndSaysHowOldItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	state := filepath.Join(t.TempDir(), "east.db")
	east := w.start(plan{name: "east/east-1", state: state})
	west := w.start(plan{name: "west/west-1", join: []string{east.addr}})
	west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 2)})
	version := originOf(east.await("orders", soon, offers("shop/orders", "west")), west.id).Version
	west.end()
	east.end()

	east = w.start(plan{name: "east/east-1", state: state})
	v := east.await("what was on disk", soon, func(v *View) bool { return originOf(v, west.id) != nil })
	o := originOf(v, west.id)
	if o.Version != version || !o.Stale || len(o.Records) != 1 || o.Confirmed.IsZero() {
		t.Errorf("restored %+v", o)
	}
	if x := v.Exports(mesh.ServiceName{Namespace: "shop", Name: "orders"}); len(x) != 1 || len(x[0].Gateways) != 0 {
		t.Errorf("exports %+v: want west listed and not reachable", x)
	}
	if g := gatewayOf(v, west.id); g == nil || g.Advertise != west.addr || g.Alive || g.Tunnel.Up {
		t.Errorf("west-1 is remembered as %+v", g)
	}
}

func TestARememberedGatewayIsFoundWithoutTheJoinAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	state := filepath.Join(t.TempDir(), "west.db")
	east := w.start(plan{name: "east/east-1"})
	north := w.start(plan{name: "north/north-1", join: []string{east.addr}})
	west := w.start(plan{name: "west/west-1", join: []string{east.addr}, state: state})
	west.await("all", soon, sees(east, north))
	west.end()
	east.end()
	west = w.start(plan{name: "west/west-1", join: []string{east.addr}, state: state})
	west.await("north-1, remembered", soon, sees(north))
}

func TestALeavingGatewayIsForgottenAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	east := w.start(plan{name: "east/east-1"})
	west := w.start(plan{name: "west/west-1", join: []string{east.addr}})
	west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 2)})
	east.await("orders", soon, offers("shop/orders", "west"))
	west.leave()
	east.await("west-1 forgotten", soon, func(v *View) bool { return gatewayOf(v, west.id) == nil && originOf(v, west.id) == nil })
}

func TestARestartedGatewayMayLeaveAndComeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	state := filepath.Join(t.TempDir(), "west.db")
	east := w.start(plan{name: "east/east-1"})
	for range 2 {
		west := w.start(plan{name: "west/west-1", join: []string{east.addr}, state: state})
		west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 2)})
		east.await("orders", soon, offers("shop/orders", "west"))
		east.await("west-1", soon, sees(west))
		west.leave()
		east.await("west-1 forgotten", soon, func(v *View) bool { return gatewayOf(v, west.id) == nil && originOf(v, west.id) == nil })
	}
}

func TestACertificateOfAnotherGatewayIsRefusedByNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	_, err := New(Config{Self: mesh.GatewayID{Cluster: "east", Name: "east-1"}, Identity: w.mesh.Gateway("east", "east-2"), Tunnel: w.start(plan{name: "west/west-1"}).tunnel})
	if err == nil {
		t.Error("east-1 with east-2's certificate was accepted")
	}
}

func TestGarbageOnAGossipStreamIsNoHarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	east := w.start(plan{name: "east/east-1"})
	west := w.start(plan{name: "west/west-1", join: []string{east.addr}})
	east.await("west-1", soon, sees(west))
	for _, head := range []string{
		"CONNECT gossip HTTP/1.1\r\nHost: gossip\r\n\r\n\xff\xff\xff\xff garbage",
		"CONNECT gossip HTTP/1.1\r\nHost: gossip\r\n\r\n\x0a\x00\x00\x00\x00",
		"CONNECT gossip HTTP/1.1\r\nHost: gossip\r\n\r\n",
		"GET /catalog?origin=x HTTP/1.1\r\nHost: gossip\r\n\r\n",
		"GET /catalog?origin=a/b&epoch=1&since=-1 HTTP/1.1\r\nHost: gossip\r\n\r\n",
		"GET /nothing HTTP/1.1\r\nHost: gossip\r\n\r\n",
		"\x00\x01\x02\r\n\r\n",
	} {
		s, err := west.tunnel.Open(t.Context(), east.id)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.SetDeadline(time.Now().Add(soon))
		if _, err := s.Write([]byte(head)); err != nil {
			t.Fatal(err)
		}
		_ = s.CloseWrite()
		answer, _ := io.ReadAll(io.LimitReader(s, 1<<20)) // whatever it is
		if len(answer) > 4096 {
			t.Errorf("%q was answered by %d bytes", head, len(answer))
		}
		_ = s.Close()
	}
	west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 2)})
	east.await("orders all the same", soon, offers("shop/orders", "west"))
}

func TestShutdownWithoutRunAndTwiceIsNoHarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	f := idle(t, w.mesh)
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := f.Run(t.Context()); err != nil {
		t.Errorf("Run after Shutdown: %v", err)
	}
	east := w.start(plan{name: "east/east-1"})
	east.Own().Publish(nil)
	east.await("its own catalog", soon, func(v *View) bool { return len(v.Origins) == 1 })
	for range 2 {
		if err := east.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := east.Run(t.Context()); err == nil {
		t.Error("Run ran twice")
	}
}

func TestMayAnnounceFromSeveralGoroutinesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	east := w.start(plan{name: "east/east-1"})
	east.Own().Publish(nil)
	east.await("its own catalog", soon, func(v *View) bool { return len(v.Origins) == 1 })
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				east.announce()
			}
		})
	}
	all.Wait()
}
