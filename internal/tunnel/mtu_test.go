package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// try sends size bytes to an echo over a new stream and wants them back within a
// second.
func (g *gateway) try(to mesh.GatewayID, size int) error {
	s, err := g.Open(context.Background(), to)
	if err != nil {
		return err
	}
	defer s.Abort() //nolint:errcheck // it is closed already when all went well
	if err := s.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := s.Write(make([]byte, size)); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	b, err := io.ReadAll(s)
	if err == nil && len(b) != size {
		err = io.ErrUnexpectedEOF
	}
	return errors.Join(err, s.Close())
}

func TestATunnelOnAPathThatHasBecomeNarrowIsRenewedWithinThreeSeconds(t *testing.T) {
	for name, narrow := range map[string]func(n *network, mtu int){
		"both ways":            func(n *network, mtu int) { n.narrow(eastAddr, westAddr, mtu); n.narrow(westAddr, eastAddr, mtu) },
		"from who dialled":     func(n *network, mtu int) { n.narrow(eastAddr, westAddr, mtu) },
		"from who was dialled": func(n *network, mtu int) { n.narrow(westAddr, eastAddr, mtu) },
	} {
		for _, mtu := range []int{1400, 1200} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, newNetwork(20*time.Millisecond))
					east, west := w.start("east/e1", eastAddr), w.start("west/w1", westAddr)
					east.dials(west)
					east.await(t, west.id, "connected", connections(defaultConnections))
					west.await(t, east.id, "connected", connections(defaultConnections))
					west.echoes(t)
					time.Sleep(10 * time.Second)
					if p := east.peer(west.id); p.PacketSize <= 1400 || p.MTUReduced {
						t.Fatalf("before: %+v, want large packets", p)
					}
					narrow(w.net, mtu)
					began := time.Now()
					for east.try(west.id, 100_000) != nil && time.Since(began) < time.Minute {
						time.Sleep(10 * time.Millisecond)
					}
					if d := time.Since(began); d > 3*time.Second+200*time.Millisecond {
						t.Errorf("requests pass again after %v", d)
					}
					for range 40 {
						if err := east.try(west.id, 100_000); err != nil {
							t.Fatal(err)
						}
						time.Sleep(500 * time.Millisecond)
					}
					p, q := east.peer(west.id), west.peer(east.id)
					if !p.MTUReduced && !q.MTUReduced {
						t.Errorf("nobody says that the MTU is reduced: %+v, %+v", p, q)
					}
					if min(p.PacketSize, q.PacketSize) > mtu {
						t.Errorf("packets of %d and %d bytes on a path for %d", p.PacketSize, q.PacketSize, mtu)
					}
				})
			})
		}
	}
}

func TestALargerMTUIsTriedAgainWithoutCuttingStreams(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		west.echoes(t)
		time.Sleep(10 * time.Second)
		w.net.narrow(eastAddr, westAddr, 1300)
		w.net.narrow(westAddr, eastAddr, 1300)
		east.await(t, west.id, "reduced", func(p Peer) bool { return p.MTUReduced })
		time.Sleep(time.Minute)
		w.net.narrow(eastAddr, westAddr, 0)
		w.net.narrow(westAddr, eastAddr, 0)
		s := east.open(t, west)
		time.Sleep(raiseEvery)
		if p := east.peer(west.id); p.MTUReduced || p.PacketSize <= 1400 {
			t.Errorf("afterwards: %+v, want large packets again", p)
		}
		if s.conn.expires.IsZero() || !s.conn.retired.Load() {
			t.Error("the old connection is not retired")
		}
		checkEcho(t, s, string(bytes.Repeat([]byte("x"), 100_000)))
		time.Sleep(10 * time.Second)
		if p := east.peer(west.id); p.Connections != defaultConnections || p.State != Up || p.Left {
			t.Errorf("after the stream's end: %+v", p)
		}
		if p := west.peer(east.id); p.Connections != defaultConnections || p.State != Up || p.Left {
			t.Errorf("after the stream's end: %+v", p)
		}
	})
}

func TestLossIsNotTakenForANarrowPath(t *testing.T) {
	// taken returns what went wrong with a stream in the time.
	taken := func(loss float64, during time.Duration) (fault error) {
		pair(t, func(t *testing.T, w *world, east, west *gateway) {
			west.echoes(t)
			s := east.path(t, west)
			w.net.mu.Lock()
			w.net.loss = loss
			w.net.mu.Unlock()
			time.Sleep(during)
			p, q := east.peer(west.id), west.peer(east.id)
			if p.State != Up || q.State != Up || p.LastError+q.LastError != "" || loss < 0.3 && (p.MTUReduced || q.MTUReduced) {
				fault = fmt.Errorf("with a loss of %v: %+v, %+v", loss, p, q)
				return
			}
			checkEcho(t, s, "of minutes ago")
		})
		return fault
	}
	for _, loss := range []float64{0.1, 0.2} {
		if err := taken(loss, 10*time.Minute); err != nil {
			t.Error(err)
		}
	}
	// With 30 % it happens once in hours, see probeLost: not twice in a row.
	if err := taken(0.3, 5*time.Minute); err != nil {
		t.Log(err)
		if err := taken(0.3, 5*time.Minute); err != nil {
			t.Error(err)
		}
	}
}

// run lets a mtuProber tick with the peer heard, and its probes echoed or not.
func (p *mtuProber) run(n int, echoed *uint32, passes bool) (probes int, lost bool) {
	for range n {
		probe, passage := p.tick(tick, probeEvery, heardOf{any: true, echoed: *echoed}, 10*time.Millisecond)
		if probe {
			probes++
			if passes {
				*echoed = p.sent
			}
		}
		if passage == passesNone {
			return probes, true
		}
	}
	return probes, false
}

func TestAProberAsksOnceASecondWhileItIsAnswered(t *testing.T) {
	var p mtuProber
	var echoed uint32
	probes, lost := p.run(200, &echoed, true)
	if lost || probes < 9 || probes > 11 {
		t.Errorf("in ten seconds %d probes, lost %v", probes, lost)
	}
}

func TestAProberCallsLargePacketsLostOnlyOfAPeerThatHasAnsweredAndIsHeard(t *testing.T) {
	var p mtuProber
	var echoed uint32
	if _, lost := p.run(1000, &echoed, false); lost {
		t.Error("lost, though the peer has never answered")
	}
	p.run(20, &echoed, true)
	probes, lost := p.run(100, &echoed, false)
	if !lost || probes < 10 {
		t.Errorf("after %d probes: lost %v", probes, lost)
	}

	p, echoed = mtuProber{}, 0
	p.run(20, &echoed, true)
	for range 1000 {
		if _, passes := p.tick(tick, probeEvery, heardOf{echoed: echoed}, 0); passes != passesAll {
			t.Fatal("lost, though the peer is silent")
		}
	}
}

func TestWhoGetsNoMoreProbesOfAPeerThatIsHeardDoubtsThePathToo(t *testing.T) {
	var p mtuProber
	for i := range 100 {
		if _, passes := p.tick(tick, probeEvery, heardOf{any: true, echoed: p.sent}, 0); passes != passesAll {
			t.Fatalf("doubt after %d ticks, though the peer has never sent a probe", i)
		}
	}
	ticks := 0
	for passes := passesAll; passes == passesAll; ticks++ {
		_, passes = p.tick(tick, probeEvery, heardOf{any: true, echoed: p.sent, probed: 1, next: probeEvery}, 0)
	}
	if d := time.Duration(ticks) * tick; d < probeEvery+probeDoubt || d > probeEvery+probeDoubt+2*tick {
		t.Errorf("doubt after %v", d)
	}
}

func FuzzDatagram(f *testing.F) {
	f.Add(newDatagram(datagramProbe, 7, 100))
	f.Add([]byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		typ, number, ok := parseDatagram(b)
		if !ok {
			return
		}
		if again := newDatagram(typ, number, len(b)); !bytes.Equal(again[:datagramHead], b[:datagramHead]) {
			t.Errorf("%x became %x", b, again)
		}
	})
}
