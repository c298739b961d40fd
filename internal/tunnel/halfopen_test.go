package tunnel

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
)

// flood has n clients begin a handshake with to that they do not finish, from ports of
// an address. finish is what each does with the server's certificate.
func (w *world) flood(to *gateway, host string, n int, finish func(ctx context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	conf := w.mesh.Gateway("east", "e9").ClientTLS(serverName, identity.AnyGateway(), alpn)
	conf.VerifyConnection = func(tls.ConnectionState) error { return finish(ctx) }
	for i := range n {
		conn, err := w.net.listen(fmt.Sprintf("%s:%d", host, 1000+i))()
		if err != nil {
			w.t.Fatal(err)
		}
		clients.Go(func() {
			transport := &quic.Transport{Conn: conn}
			defer closeTransport(transport, conn)
			for ctx.Err() == nil {
				if c, err := transport.Dial(ctx, to.LocalAddr(), conf, quicConfig()); err == nil {
					<-c.Context().Done()
				}
			}
		})
	}
	return func() { cancel(); clients.Wait() }
}

func TestHandshakesWithForgedAddressesCostLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(time.Millisecond))
		west := w.start("west/w1", westAddr)
		const n = 150
		for i := range n { // what is sent to a forged address does not arrive
			w.net.mu.Lock()
			w.net.cut[[2]string{westAddr, fmt.Sprintf("10.9.9.9:%d", 1000+i)}] = true
			w.net.mu.Unlock()
		}
		stop := w.flood(west, "10.9.9.9", n, func(context.Context) error { return nil })
		defer stop()
		time.Sleep(3 * time.Second)
		if held, _ := west.halfOpen.held.Used(); held != maxUnverified {
			t.Errorf("%d connections are half open, want %d", held, maxUnverified)
		}
		east := w.start("east/e1", eastAddr)
		east.dials(west)
		east.await(t, west.id, "up", isUp)
	})
}

func TestGatewaysProveNoAddressDuringAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(time.Millisecond))
		west := w.start("west/w1", westAddr)
		east := w.start("east/e1", eastAddr)
		east.dials(west)
		east.await(t, west.id, "up", isUp)
		east.kill()
		const n = 150
		for i := range n { // what is sent to a forged address does not arrive
			w.net.mu.Lock()
			w.net.cut[[2]string{westAddr, fmt.Sprintf("10.9.9.9:%d", 1000+i)}] = true
			w.net.mu.Unlock()
		}
		stop := w.flood(west, "10.9.9.9", n, func(context.Context) error { return nil })
		defer stop()
		time.Sleep(3 * time.Second)
		held, _ := west.halfOpen.held.Used()
		its := west.halfOpen.held.Held(limit.SourceOf(east.LocalAddr())) // of a further connection that it began before it was killed
		if held < maxUnverified || held-its > maxUnverified || !west.halfOpen.doubts(&net.UDPAddr{IP: net.IPv4(10, 9, 9, 8)}) {
			t.Fatalf("%d connections are half open, %d of them of the gateway, and a stranger proves nothing", held, its)
		}
		restarted := w.start("east/e1", eastAddr)
		if west.halfOpen.doubts(restarted.LocalAddr()) {
			t.Error("a gateway must prove the address that it had before")
		}
		restarted.dials(west)
		began := time.Now()
		restarted.await(t, west.id, "up", isUp)
		// One round trip of the handshake, one of the hellos, and none for a Retry.
		if d := time.Since(began); d > 5*time.Millisecond {
			t.Errorf("a known gateway got in after %v", d)
		}
	})
}

func TestAForgedAddressOfAGatewayIsDoubtedSoon(t *testing.T) {
	h := newHalfOpen()
	gateway := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7443}
	h.hosts.Store(&map[limit.Source]struct{}{limit.SourceOf(gateway): {}})
	from := func(addr *net.UDPAddr) {
		if _, err := h.begin(t.Context(), &quic.ClientInfo{RemoteAddr: addr}); err != nil {
			t.Fatal(err)
		}
	}
	for range maxUnverified {
		from(&net.UDPAddr{IP: net.IPv4(10, 9, 9, 9)})
	}
	for n := range maxUnverifiedHost {
		if h.doubts(gateway) {
			t.Fatalf("with %d connections half open a gateway must prove its address", n)
		}
		from(gateway)
	}
	if !h.doubts(gateway) {
		t.Errorf("with %d connections half open another one from there need prove nothing", maxUnverifiedHost)
	}
}

func TestForgedAddressesOfManyGatewaysLeaveRoomForTheOthers(t *testing.T) {
	h := newHalfOpen()
	const gateways = 250
	at := func(n int) *net.UDPAddr { return &net.UDPAddr{IP: net.IPv4(10, 0, 0, byte(n)), Port: 7443} }
	hosts := map[limit.Source]struct{}{}
	for n := range gateways {
		hosts[limit.SourceOf(at(n))] = struct{}{}
	}
	h.hosts.Store(&hosts)
	for range maxUnverifiedHost {
		for n := range gateways {
			if h.doubts(at(n)) {
				continue // who forges an address never has the token
			}
			if _, err := h.begin(t.Context(), &quic.ClientInfo{RemoteAddr: at(n)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if held, _ := h.held.Used(); held > maxUnverifiedHosts {
		t.Errorf("%d of %d places are those of forged addresses", held, maxHalfOpen)
	}
	for n := range gateways {
		if _, err := h.begin(t.Context(), &quic.ClientInfo{RemoteAddr: at(n), AddrVerified: true}); err != nil {
			t.Fatalf("gateway %d, which proved its address: %v", n, err)
		}
	}
}

func TestOneSourceOfHalfHandshakesLeavesRoomForGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, newNetwork(time.Millisecond))
		west := w.start("west/w1", westAddr)
		stop := w.flood(west, "10.9.9.9", maxHalfOpen*3/5, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		defer stop()
		time.Sleep(2 * time.Second)
		if held, sources := west.halfOpen.held.Used(); held > maxHalfOpen/2 || held < maxHalfOpen/4 || sources != 1 {
			t.Errorf("%d connections of %d sources are half open, want about %d of one", held, sources, maxHalfOpen/2)
		}
		east := w.start("east/e1", eastAddr)
		east.dials(west)
		began := time.Now()
		east.await(t, west.id, "up", isUp)
		if d := time.Since(began); d > time.Second {
			t.Errorf("a gateway got in after %v", d)
		}
		stop()
		time.Sleep(time.Minute)
		if held, _ := west.halfOpen.held.Used(); held != 0 {
			t.Errorf("%d connections are half open when there are none", held)
		}
	})
}

func TestOneClustersStreamsAreBounded(t *testing.T) {
	pair(t, func(t *testing.T, w *world, east, west *gateway) {
		west.incoming.SetTotal(10)
		var open []*Stream
		refused := 0
		for range 8 {
			s := east.open(t, west)
			if _, err := s.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			_ = s.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := s.Read(make([]byte, 1)); err != nil && !isTimeout(err) {
				wantError(t, err, ErrReset)
				refused++
				_ = s.Close()
				continue
			}
			open = append(open, s)
		}
		if len(open) != 5 || refused != 3 { // as many as are free
			t.Errorf("%d streams are open and %d refused, want 5 and 3", len(open), refused)
		}
		for range open {
			_ = west.accept(t).Close()
		}
		if held, clusters := west.incoming.Used(); held != 0 || clusters != 0 {
			t.Errorf("%d streams of %d clusters are counted after all have ended", held, clusters)
		}
	})
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}
