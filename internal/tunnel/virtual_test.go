package tunnel

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The tests in this file run in virtual time: durations are exact, and synctest
// fails a test that leaves a goroutine behind.

const (
	eastAddr  = "10.0.0.1:7443"
	westAddr  = "10.0.0.2:7443"
	otherAddr = "10.0.0.3:7443"
)

// pair runs two gateways that know each other, 20 ms apart each way.
func pair(t *testing.T, test func(t *testing.T, w *world, east, west *gateway)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(20*time.Millisecond))
		east, west := w.start("east/e1", eastAddr), w.start("west/w1", westAddr)
		east.dials(west)
		west.dials(east)
		east.await(t, west.id, "connected", connections(defaultConnections))
		west.await(t, east.id, "connected", connections(defaultConnections))
		test(t, w, east, west)
	})
}

func TestBothEndsOpenStreams(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		east.echoes(t)
		west.echoes(t)
		checkEcho(t, east.open(t, west), "from the one that dialled")
		checkEcho(t, west.open(t, east), "from the one that was dialled")
	})
}

func TestOnlyOneEndDialsWhenBothKnowEachOther(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		time.Sleep(time.Minute)
		for _, p := range []Peer{east.peer(west.id), west.peer(east.id)} {
			if p.Connections != defaultConnections {
				t.Errorf("%d connections to %s, want %d", p.Connections, p.Gateway, defaultConnections)
			}
			if p.RTT < 40*time.Millisecond || p.RTT > 60*time.Millisecond {
				t.Errorf("RTT to %s is %v, want about 40ms", p.Gateway, p.RTT)
			}
		}
	})
}

func TestAnIdleTunnelStaysUp(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		since := east.peer(west.id).Since
		time.Sleep(5 * time.Minute)
		if p := east.peer(west.id); p.State != Up || p.Since != since || p.LastError != "" {
			t.Errorf("after idle minutes: %+v", p)
		}
	})
}

func TestAFrozenPeerIsDownAfterASecond(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		west.echoes(t)
		s := east.open(t, west)
		if _, err := io.WriteString(s, "x"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(777 * time.Millisecond)
		w.net.port(westAddr).frozen.Store(true)
		frozen := time.Now()
		east.await(t, west.id, "down", isDown)
		if d := time.Since(frozen); d < 700*time.Millisecond || d > 1150*time.Millisecond {
			t.Errorf("seen after %v, want about a second", d)
		}
		_, err := s.Read(make([]byte, 10))
		wantError(t, err, ErrTunnelLost)
		_ = s.Close()
		_, err = east.Open(t.Context(), west.id)
		wantError(t, err, ErrNoTunnel)

		time.Sleep(time.Minute)
		w.net.port(westAddr).frozen.Store(false)
		thawed := time.Now()
		east.await(t, west.id, "up", isUp)
		if d := time.Since(thawed); d > maxBackoff+time.Second {
			t.Errorf("back after %v", d)
		}
		checkEcho(t, east.open(t, west), "again")
	})
}

func TestABusyTunnelSeesAFrozenPeerToo(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		s := east.open(t, west)
		done := make(chan struct{})
		go func() { // nobody reads: it fills the window
			defer close(done)
			b := make([]byte, 64<<10)
			for {
				if _, err := s.Write(b); err != nil {
					return
				}
			}
		}()
		time.Sleep(2 * time.Second)
		w.net.port(westAddr).frozen.Store(true)
		frozen := time.Now()
		east.await(t, west.id, "down", isDown)
		if d := time.Since(frozen); d > 1150*time.Millisecond {
			t.Errorf("seen after %v, want about a second", d)
		}
		<-done
		_ = s.Abort()
	})
}

func TestALongPathIsGivenMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(300*time.Millisecond))
		east, west := w.start("east/e1", eastAddr), w.start("west/w1", westAddr)
		east.dials(west)
		east.await(t, west.id, "up", isUp)
		west.echoes(t)
		defer east.path(t, west).Close()
		since := east.peer(west.id).Since
		time.Sleep(5 * time.Minute)
		if p := east.peer(west.id); p.State != Up || p.Since != since {
			t.Fatalf("flapped: %+v", p)
		}
		w.net.partition(eastAddr, westAddr, true)
		cut := time.Now()
		east.await(t, west.id, "down", isDown)
		if d := time.Since(cut); d < 1700*time.Millisecond || d > 3500*time.Millisecond {
			t.Errorf("seen after %v, want about four round trips of 600ms", d)
		}
	})
}

func TestARestartedPeerIsSeenByItsStatelessReset(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		west.SetTargets(nil)
		time.Sleep(shortLife)
		west.kill()
		// The new process dials nobody: what east learns, it learns by asking.
		again := w.start("west/w1", westAddr)
		restarted := time.Now()
		p := east.await(t, west.id, "restarted", func(p Peer) bool { return p.State == Down || p.Since.After(restarted) })
		if d := time.Since(restarted); d > 400*time.Millisecond {
			t.Errorf("seen after %v, want it at the next heartbeat: %+v", d, p)
		}
		east.await(t, west.id, "up", isUp)
		if d := time.Since(restarted); d > 700*time.Millisecond {
			t.Errorf("up again after %v", d)
		}
		again.echoes(t)
		checkEcho(t, east.open(t, again), "hello again")
	})
}

func TestARestartedPeerElsewhereReplacesItsDeadTunnels(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		west.kill()
		east.SetTargets(nil)
		again := w.start("west/w1", otherAddr)
		restarted := time.Now()
		again.dials(east)
		again.await(t, east.id, "up", isUp)
		// headStart, handshake and the question to the incumbent
		if d := time.Since(restarted); d > headStart+probeWait+200*time.Millisecond {
			t.Errorf("admitted after %v", d)
		}
		if p := east.await(t, again.id, "up", isUp); p.Addr != otherAddr {
			t.Errorf("peer is at %s, want %s", p.Addr, otherAddr)
		}
	})
}

func TestASecondGatewayOfOneNameIsRefused(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		since := east.peer(west.id).Since
		impostor := w.start("west/w1", otherAddr)
		impostor.dials(east)
		time.Sleep(time.Minute)
		if s := impostor.TargetStates(); len(s) != 1 || s[0].Connected || s[0].LastError == "" {
			t.Errorf("newcomer's target: %+v, want it refused", s)
		} else {
			t.Log(s[0].LastError)
		}
		if p := east.peer(west.id); p.State != Up || p.Since != since || p.Addr != westAddr {
			t.Errorf("incumbent: %+v, want it untouched", p)
		}
		// It is refused by its namesake as well.
		impostor.SetTargets([]Target{{Addr: westAddr}})
		time.Sleep(time.Minute)
		if s := impostor.TargetStates(); len(s) != 1 || s[0].Connected || s[0].LastError == "" {
			t.Errorf("newcomer's target: %+v, want it refused", s)
		}
		// When the incumbent is gone, its place is free.
		west.kill()
		impostor.dials(east)
		east.await(t, west.id, "at the other address", func(p Peer) bool { return p.State == Up && p.Addr == otherAddr })
	})
}

func TestTunnelsComeBackAfterALongPartition(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		w.net.partition(eastAddr, westAddr, true)
		time.Sleep(75 * time.Second)
		if p := east.peer(west.id); p.State != Down || p.LastError == "" || p.Left {
			t.Fatalf("during the partition: %+v", p)
		}
		w.net.partition(eastAddr, westAddr, false)
		healed := time.Now()
		east.await(t, west.id, "up", isUp)
		t.Logf("up %v after healing", time.Since(healed))
		if d := time.Since(healed); d > maxBackoff+time.Second {
			t.Errorf("up only %v after healing", d)
		}
		// Both ends may have been dialling: then there are more.
		east.await(t, west.id, "connected", func(p Peer) bool { return p.Connections >= defaultConnections })
	})
}

func TestNewsOfAGatewayEndTheWaitForIt(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		w.net.partition(eastAddr, westAddr, true)
		time.Sleep(90 * time.Second)
		w.net.partition(eastAddr, westAddr, false)
		west.SetTargets(nil)
		synctest.Wait()
		// A dial that began before the healing may have to fail first.
		healed := time.Now()
		for ; east.peer(west.id).State != Up; time.Sleep(100 * time.Millisecond) {
			east.Redial(west.id)
		}
		if d := time.Since(healed); d > dialTimeout+time.Second {
			t.Errorf("up %v after healing", d)
		}
	})
}

func TestABlackHoleInOneDirectionIsDown(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		w.net.mu.Lock()
		w.net.cut[[2]string{eastAddr, westAddr}] = true
		w.net.mu.Unlock()
		// West hears nothing and says so when it closes, which east still hears.
		west.await(t, east.id, "down", isDown)
		east.await(t, west.id, "down", isDown)
	})
}

func TestALeavingGatewayDrains(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		s := east.open(t, west)
		if _, err := io.WriteString(s, "before"); err != nil {
			t.Fatal(err)
		}
		far := west.accept(t)
		left := make(chan error, 1)
		go func() { left <- west.Shutdown(context.Background()) }()
		p := east.await(t, west.id, "leaving", isDown)
		if !p.Left || p.Connections == 0 {
			t.Errorf("leaving peer: %+v, want it left with its connections", p)
		}
		_, err := east.Open(t.Context(), west.id)
		wantError(t, err, ErrNoTunnel)

		time.Sleep(5 * time.Second) // the stream goes on
		if _, err := io.WriteString(far, "last words"); err != nil {
			t.Fatal(err)
		}
		_ = far.Close()
		if err := <-left; err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if got, err := io.ReadAll(s); err != nil || string(got) != "last words" {
			t.Errorf("got %q, %v", got, err)
		}
		_ = s.Close()
		p = east.await(t, west.id, "gone", connections(0))
		if !p.Left {
			t.Errorf("gone peer: %+v, want it left", p)
		}
		again := w.start("west/w1", westAddr)
		again.dials(east)
		if p := east.await(t, west.id, "back", isUp); p.Left {
			t.Errorf("peer that came back: %+v, want it not left", p)
		}
	})
}

func TestAShutdownThatTakesTooLongCutsStreamsOff(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		s := east.open(t, west)
		if _, err := io.WriteString(s, "x"); err != nil {
			t.Fatal(err)
		}
		far := west.accept(t)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		wantError(t, west.Shutdown(ctx), context.DeadlineExceeded)
		_, err := io.ReadAll(far)
		wantError(t, err, ErrTunnelLost)
		_, err = io.ReadAll(s)
		wantError(t, err, ErrTunnelLost)
		_ = far.Close()
		_ = s.Close()
		if p := east.await(t, west.id, "gone", connections(0)); !p.Left {
			t.Errorf("peer: %+v, want it left", p)
		}
	})
}

func TestAStoppedGatewayHasNotLeft(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		west.stop()
		if p := east.await(t, west.id, "gone", connections(0)); p.Left || p.State != Down {
			t.Errorf("peer: %+v, want it down but not left", p)
		}
	})
}

func TestAPeerThatDiesDoesNotHoldUpAShutdown(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		s := east.open(t, west)
		if _, err := io.WriteString(s, "x"); err != nil {
			t.Fatal(err)
		}
		far := west.accept(t)
		w.net.port(eastAddr).frozen.Store(true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := west.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if d := time.Since(began); d > silence+doneWait+time.Second {
			t.Errorf("shutdown took %v", d)
		}
		_ = far.Close()
		_ = s.Close()
	})
}

func TestALossyPathDoesNotFlap(t *testing.T) {
	for _, busy := range []bool{true, false} {
		pair(t, func(t *testing.T, w *world, east, west *gateway) {
			west.echoes(t)
			if busy {
				defer east.path(t, west).Close()
			}
			since := east.peer(west.id).Since
			w.net.mu.Lock()
			w.net.loss = 0.1
			w.net.mu.Unlock()
			time.Sleep(10 * time.Minute)
			if p := east.peer(west.id); p.State != Up || p.Since != since || p.LastError != "" {
				t.Errorf("after minutes with a tenth of the packets lost, in use %v: %+v", busy, p)
			}
		})
	}
}

func TestAGatewayThatOnlyDialsOutStillServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(time.Millisecond))
		east, west := w.start("east/e1", eastAddr), w.start("west/w1", westAddr)
		west.SetTargets([]Target{{Addr: eastAddr}}) // a join address: who is there is not known
		east.await(t, west.id, "up", isUp)
		west.echoes(t)
		checkEcho(t, east.open(t, west), "inwards")
		if s := west.TargetStates(); len(s) != 1 || s[0].Gateway != east.id || !s[0].Connected {
			t.Errorf("targets: %+v", s)
		}
	})
}

func TestTheOwnAddressIsNoPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(time.Millisecond))
		east := w.start("east/e1", eastAddr)
		east.SetTargets([]Target{{Addr: eastAddr}})
		time.Sleep(2 * time.Minute)
		if peers, _ := east.Peers(); len(peers) != 0 {
			t.Errorf("peers: %+v", peers)
		}
		if s := east.TargetStates(); len(s) != 1 || s[0].Connected || s[0].LastError == "" {
			t.Errorf("targets: %+v", s)
		}
	})
}

func TestTwoAddressesOfOneGatewayAreOnePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(time.Millisecond))
		west := w.start("west/w1", westAddr)
		east := w.start("east/e1", eastAddr)
		w.net.mu.Lock()
		w.net.ports[otherAddr] = w.net.ports[westAddr] // answers from its first address
		w.net.mu.Unlock()
		east.SetTargets([]Target{{Addr: westAddr}, {Addr: westAddr, Gateway: west.id}, {Addr: otherAddr, Gateway: west.id}})
		time.Sleep(time.Minute)
		if p := east.peer(west.id); p.State != Up || p.Connections != defaultConnections {
			t.Errorf("peer: %+v", p)
		}
		for _, s := range east.TargetStates() {
			if !s.Connected || s.Gateway != west.id {
				t.Errorf("target: %+v", s)
			}
		}
	})
}

func TestAnotherGatewayThanExpectedIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(time.Millisecond))
		east := w.start("east/e1", eastAddr)
		w.start("west/w1", westAddr)
		east.SetTargets([]Target{{Addr: westAddr, Gateway: mesh.GatewayID{Cluster: "north", Name: "n1"}}})
		time.Sleep(10 * time.Second)
		if s := east.TargetStates(); len(s) != 1 || s[0].Connected || s[0].LastError == "" {
			t.Errorf("targets: %+v", s)
		} else {
			t.Log(s[0].LastError)
		}
	})
}

func TestDroppedTargetsAreNotDialledAnyMore(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		east.SetTargets(nil)
		west.SetTargets(nil)
		if p := east.peer(west.id); p.Connections != defaultConnections {
			t.Errorf("dropping a target changed its tunnels: %+v", p)
		}
		w.net.partition(eastAddr, westAddr, true)
		time.Sleep(time.Minute)
		w.net.partition(eastAddr, westAddr, false)
		time.Sleep(time.Minute)
		if p := east.peer(west.id); p.State != Down {
			t.Errorf("peer: %+v, want it down", p)
		}
		time.Sleep(forgetAfter)
		if peers, _ := east.Peers(); len(peers) != 0 {
			t.Errorf("peers: %+v, want it forgotten", peers)
		}
	})
}
