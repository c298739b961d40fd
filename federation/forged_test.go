package federation

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/federation/gossip"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The types of memberlist's messages.
const (
	aliveMessage = 4
	deadMessage  = 5
)

// forged returns a message of memberlist: its type and, in turn, names and values of
// fields.
func forged(typ byte, fields ...any) []byte {
	b := []byte{typ, 0x80 | byte(len(fields)/2)}
	raw := func(s string) {
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(len(s)))
		b = append(b, s...)
	}
	for _, f := range fields {
		switch f := f.(type) {
		case int:
			b = binary.BigEndian.AppendUint32(append(b, 0xce), uint32(f))
		case string:
			raw(f)
		case []byte:
			raw(string(f))
		}
	}
	return b
}

func forgedAlive(id mesh.GatewayID, incarnation int, meta []byte) []byte {
	return forged(aliveMessage, "Incarnation", incarnation, "Node", gossip.NodeName(id), "Addr", []byte(gossip.NodeAddr(id)),
		"Port", gossip.Port, "Meta", meta, "Vsn", []byte{1, 5, 2, 0, 0, 0})
}

// dials returns how many connections the registry's tunnels have dialled.
func dials(t *testing.T, reg prometheus.Gatherer) (n float64) {
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		if family.GetName() == "isthmus_tunnel_dials_total" {
			for _, m := range family.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

func TestForgedMembersAreFewAndMakeFewDials(t *testing.T) {
	for _, clusters := range []int{1, 100} {
		t.Run(fmt.Sprint(clusters, " clusters"), func(t *testing.T) {
			virtual(t, func(t *testing.T, w *world) {
				reg := prometheus.NewRegistry()
				east := w.start(plan{name: "east/east-1", addr: eastAddr, metrics: reg})
				west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}})
				east.await("west-1", 10*time.Second, sees(west))
				before := dials(t, reg)
				most, targets := 0, 0
				for round := range 10 { // for a minute
					for i := range 300 {
						id := mesh.GatewayID{Cluster: mesh.ClusterName(fmt.Sprint("north-", i%clusters)), Name: mesh.GatewayName(fmt.Sprint("invented-", i))}
						meta := encodeMeta(core.Meta{Version: catalog.Version{Epoch: 1, Seq: 1}, Advertise: fmt.Sprintf("10.9.%d.%d:7443", i/100, i%100)})
						if err := west.tunnel.SendPacket(east.id, forgedAlive(id, round+1, meta)); err != nil {
							t.Fatal(err)
						}
						time.Sleep(20 * time.Millisecond)
					}
					v, _ := east.View()
					most, targets = max(most, len(v.Gateways)), max(targets, len(east.tunnel.TargetStates()))
				}
				made := dials(t, reg) - before
				t.Logf("at most %d gateways are shown and %d addresses dialled, %v times in a minute", most, targets, made)
				wantShown, wantTargets, wantDials := 2+8, 4, 60.0
				if clusters > 1 {
					wantShown, wantTargets, wantDials = 2+256, 32, 500
				}
				if most > wantShown || targets > 1+wantTargets || made > wantDials || targets < 2 {
					t.Errorf("want at most %d, %d and %v", wantShown, wantTargets, wantDials)
				}
				// Who is true is met all the same: within seconds, or, when all places are
				// taken, which is by chance, once those that were made up are forgotten.
				north := w.start(plan{name: "north/north-1", addr: northAddr, join: []string{westAddr}})
				met := 10 * time.Second
				if clusters > 1 {
					met = 4 * time.Minute
				}
				east.await("north-1", met, sees(north))
				north.await("all", 10*time.Second, sees(east, west))
			})
		})
	}
}

func TestALeaveThatAnotherForgesIsNone(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		id := gossip.NodeName(north.id)
		leaves := func() {
			meta := encodeMeta(core.Meta{Advertise: northAddr})
			meta[1] = 1 // it once said here that it leaves
			for _, b := range [][]byte{forgedAlive(north.id, 1000, meta), forged(deadMessage, "Incarnation", 1000, "Node", id, "From", id)} {
				if err := west.tunnel.SendPacket(east.id, b); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Second)
		}
		leaves()
		if v, _ := east.View(); !sees(north)(v) || !offers("shop/orders", "north", "west")(v) {
			t.Errorf("north-1 is there, and:\n%s", show(v))
		}
		w.net.unplug(north)
		east.await("north down", 10*time.Second, offers("shop/orders", "west"))
		leaves()
		v, _ := east.View()
		if o := originOf(v, north.id); o == nil || !o.Stale || gatewayOf(v, north.id) == nil {
			t.Errorf("north-1 is dead and has not left:\n%s", show(v))
		}
	})
}

// TestForgedGossipDoesNotDelayTheNewsOfOthers has west gossip an old version of north, and
// that north is dead, under numbers that north's own words never reach, to whoever listens.
func TestForgedGossipDoesNotDelayTheNewsOfOthers(t *testing.T) {
	three(t, func(t *testing.T, w *world, east, west, north *node) {
		old, _ := north.held(north.id)
		meta := encodeMeta(core.Meta{Version: old.Head().Version, Digest: old.Head().Digest, Advertise: northAddr})
		ctx, cancel := context.WithCancel(t.Context())
		var forging sync.WaitGroup
		forging.Go(func() {
			for n := 1 << 20; ctx.Err() == nil; n++ {
				for _, to := range []*node{east, north} {
					_ = west.tunnel.SendPacket(to.id, forgedAlive(north.id, n, meta))
				}
				_ = west.tunnel.SendPacket(east.id, forgedAlive(north.id, math.MaxUint32, meta))
				time.Sleep(20 * time.Millisecond)
			}
		})
		defer func() { cancel(); forging.Wait() }()
		time.Sleep(time.Second)
		slowest := time.Duration(0)
		for i := range 20 {
			service := fmt.Sprint("shop/news-", i)
			north.Own().Publish([]mesh.Export{serving("north", "shop/orders", 2), serving("north", service, 1)})
			began := time.Now()
			east.await(service, 30*time.Second, offers(service, "north"))
			slowest = max(slowest, time.Since(began))
			time.Sleep(777 * time.Millisecond)
		}
		if slowest > 2*time.Second {
			t.Errorf("news took up to %v", slowest)
		}
	})
}
