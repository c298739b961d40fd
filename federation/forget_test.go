package federation

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// traces returns what n still has of a gateway.
func traces(n *node, id mesh.GatewayID) (found []string) {
	v, _ := n.View()
	if gatewayOf(v, id) != nil || originOf(v, id) != nil {
		found = append(found, "the view")
	}
	if len(v.Exports(mesh.ServiceName{Namespace: "shop", Name: "orders"})) != 1 {
		found = append(found, "its export")
	}
	peers, _ := n.tunnel.Peers()
	if slices.ContainsFunc(peers, func(p tunnel.Peer) bool { return p.Gateway == id }) {
		found = append(found, "the tunnel and its metrics")
	}
	if slices.ContainsFunc(n.tunnel.TargetStates(), func(s tunnel.TargetState) bool { return s.Gateway == id }) {
		found = append(found, "an address to dial")
	}
	return found
}

func TestAClusterThatIsGoneForGoodIsForgottenByAllAndMayComeBack(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if ids, _, err := east.Forget(ctx, "west"); len(ids) != 0 || !errors.Is(err, ErrNotForgotten) || !strings.Contains(err.Error(), "west/west-1 is alive: east/east-1 has a tunnel to it") {
			t.Fatalf("a live cluster: %v, %v", ids, err)
		}
		if _, _, err := east.Forget(ctx, "south"); !errors.Is(err, ErrNotForgotten) {
			t.Fatalf("a cluster that is not known: %v", err)
		}
		if _, _, err := east.Forget(ctx, "east"); !errors.Is(err, ErrNotForgotten) {
			t.Fatalf("itself: %v", err)
		}
		w.net.unplug(west)
		gone := func(v *View) bool { g := gatewayOf(v, west.id); return !g.Alive && !g.Tunnel.Up }
		east.await("west is dead", 30*time.Second, gone)
		north.await("west is dead", 30*time.Second, gone)
		west.end()
		ids, elsewhere, err := east.Forget(ctx, "west/west-1")
		if err != nil || len(ids) != 1 || ids[0] != west.id || !slices.Equal(elsewhere, []mesh.ClusterName{"north"}) {
			t.Fatalf("forgot %v, elsewhere %v, %v", ids, elsewhere, err)
		}
		time.Sleep(time.Minute)
		if left := traces(east, west.id); len(left) > 0 {
			t.Errorf("%s has %q of it again, from a cluster that was not asked", east.id, left)
		}
		if _, _, err := north.Forget(ctx, "west"); err != nil {
			t.Fatalf("forgotten by the second cluster: %v", err)
		}
		for range 3 { // nothing brings it back
			time.Sleep(20 * time.Second)
			for _, n := range []*node{east, north} {
				if left := traces(n, west.id); len(left) > 0 {
					t.Errorf("%s still has %q of it", n.id, left)
				}
			}
		}
		west = w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}})
		west.Own().Publish([]mesh.Export{serving("west", "shop/orders", 1)})
		east.await("west, new", 30*time.Second, offers("shop/orders", "north", "west"))
		north.await("west, new", 30*time.Second, offers("shop/orders", "east", "west"))
	})
}

func TestAClusterThatAnotherGatewaySeesIsNotForgottenThere(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		w.net.partition(east, west, true)
		east.await("west down", 10*time.Second, func(v *View) bool { return !gatewayOf(v, west.id).Tunnel.Up })
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if ids, _, err := east.Forget(ctx, "west"); len(ids) != 0 || !errors.Is(err, ErrNotForgotten) || !strings.Contains(err.Error(), "is alive, as other gateways tell") {
			t.Errorf("alive by gossip: %v, %v", ids, err)
		}
		if _, _, err := north.Forget(ctx, "west"); !errors.Is(err, ErrNotForgotten) || !strings.Contains(err.Error(), "north/north-1 has a tunnel to it") {
			t.Errorf("north, which sees it, was told to forget it: %v", err)
		}
	})
}

func TestNothingIsLeftOfAGatewayThatHasLeft(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		west.leave()
		time.Sleep(5 * time.Second)
		for _, n := range []*node{east, north} {
			if left := traces(n, west.id); len(left) > 0 {
				t.Errorf("%s still has %q of it", n.id, left)
			}
		}
	})
}

func TestAGatewayOfAnotherClusterCannotHaveAThirdForgotten(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		w.net.unplug(west)
		east.await("west is dead", 30*time.Second, func(v *View) bool { g := gatewayOf(v, west.id); return !g.Alive && !g.Tunnel.Up })
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := north.client.forget(ctx, east.id, []mesh.GatewayID{west.id})
		if err == nil || !strings.Contains(err.Error(), "only gateways of cluster east") {
			t.Errorf("north had west forgotten: %v", err)
		}
		if v, _ := east.View(); originOf(v, west.id) == nil || gatewayOf(v, west.id) == nil {
			t.Error("west is forgotten")
		}
	})
}

func TestWhoMayHaveAGatewayForgotten(t *testing.T) {
	west := []mesh.GatewayID{{Cluster: "west", Name: "west-1"}}
	for _, c := range []struct {
		asker, asked mesh.ClusterName
		may          bool
	}{{"east", "east", true}, {"west", "east", true}, {"west", "west", true}, {"north", "east", false}, {"east", "west", false}} {
		if got := mayHaveForgotten(c.asker, c.asked, west); got != c.may {
			t.Errorf("%s asks %s: %t", c.asker, c.asked, got)
		}
	}
	if mayHaveForgotten("west", "east", append(west, mesh.GatewayID{Cluster: "north", Name: "n"})) {
		t.Error("west speaks of north as well")
	}
}
