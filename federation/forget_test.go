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
		if ids, err := east.Forget(ctx, "west"); len(ids) != 0 || !errors.Is(err, ErrNotForgotten) || !strings.Contains(err.Error(), "west/west-1 is alive: east/east-1 has a tunnel to it") {
			t.Fatalf("a live cluster: %v, %v", ids, err)
		}
		if _, err := east.Forget(ctx, "south"); !errors.Is(err, ErrNotForgotten) {
			t.Fatalf("a cluster that is not known: %v", err)
		}
		if _, err := east.Forget(ctx, "east"); !errors.Is(err, ErrNotForgotten) {
			t.Fatalf("itself: %v", err)
		}
		w.net.unplug(west)
		gone := func(v *View) bool { g := gatewayOf(v, west.id); return !g.Alive && !g.Tunnel.Up }
		east.await("west is dead", 30*time.Second, gone)
		north.await("west is dead", 30*time.Second, gone)
		west.end()
		ids, err := east.Forget(ctx, "west/west-1")
		if err != nil || len(ids) != 1 || ids[0] != west.id {
			t.Fatalf("forgot %v, %v", ids, err)
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
		west.Publish([]mesh.Export{serving("west", "shop/orders", 1)})
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
		if ids, err := east.Forget(ctx, "west"); len(ids) != 0 || !errors.Is(err, ErrNotForgotten) || !strings.Contains(err.Error(), "is alive, as other gateways tell") {
			t.Errorf("alive by gossip: %v, %v", ids, err)
		}
		if err := east.client.forget(ctx, north.id, []mesh.GatewayID{west.id}); err == nil || !strings.Contains(err.Error(), "north/north-1 has a tunnel to it") {
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
