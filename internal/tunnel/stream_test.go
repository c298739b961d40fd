package tunnel

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The tests in this file use UDP sockets on loopback.

// neighbours runs two gateways on loopback with tunnels between them.
func neighbours(t *testing.T) (east, west *gateway) {
	t.Helper()
	w := newWorld(t, nil)
	east, west = w.start("east/e1", "127.0.0.1:0"), w.start("west/w1", "127.0.0.1:0")
	east.dials(west)
	east.await(t, west.id, "connected", connections(defaultConnections))
	west.await(t, east.id, "connected", connections(defaultConnections))
	return east, west
}

func TestABigBodyPassesBothWaysWithHalfClose(t *testing.T) {
	size := 200 << 20
	if testing.Short() || raceEnabled {
		size = 32 << 20
	}
	east, west := neighbours(t)
	s := east.open(t, west)
	sent, received := sha256.New(), sha256.New()
	var wg sync.WaitGroup
	wg.Go(func() { // the far end hashes the body, then answers with the hash
		far := west.accept(t)
		if _, err := io.Copy(received, far); err != nil {
			t.Errorf("far end: %v", err)
		}
		if _, err := far.Write(received.Sum(nil)); err != nil {
			t.Errorf("far end: %v", err)
		}
		_ = far.Close()
	})
	body := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), int64(size)), sent)
	if n, err := io.CopyBuffer(struct{ io.Writer }{s}, body, make([]byte, 32<<10)); err != nil || n != int64(size) {
		t.Fatalf("sent %d of %d bytes: %v", n, size, err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, sent.Sum(nil)) {
		t.Errorf("answer %x, %v; want %x", got, err, sent.Sum(nil))
	}
	_ = s.Close()
	wg.Wait()
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	east, west := neighbours(t)
	want := strings.Repeat("a long answer ", 30_000) // within the window: nobody reads yet
	for _, closeWrite := range []bool{false, true} {
		s := east.open(t, west)
		if _, err := io.WriteString(s, want); err != nil {
			t.Fatal(err)
		}
		if closeWrite {
			if err := s.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		wantError(t, s.Close(), net.ErrClosed)
		far := west.accept(t)
		if got, err := io.ReadAll(far); err != nil || string(got) != want {
			t.Errorf("got %d bytes, %v; want %d", len(got), err, len(want))
		}
		_ = far.Close()
	}
}

func TestAnAbortedStreamIsAnErrorAtTheOtherEnd(t *testing.T) {
	east, west := neighbours(t)
	s := east.open(t, west)
	if _, err := io.WriteString(s, "half of a"); err != nil {
		t.Fatal(err)
	}
	far := west.accept(t)
	if _, err := io.ReadFull(far, make([]byte, 9)); err != nil {
		t.Fatal(err)
	}
	if err := s.Abort(); err != nil {
		t.Fatal(err)
	}
	_, err := far.Read(make([]byte, 1))
	wantError(t, err, ErrReset)
	if _, err := io.Copy(far, strings.NewReader(strings.Repeat("x", 16<<20))); !errors.Is(err, ErrReset) {
		t.Errorf("write to an aborted stream: %v", err)
	}
	_ = far.Close()
	if p := east.peer(west.id); p.Streams != 0 || p.State != Up {
		t.Errorf("peer: %+v", p)
	}
}

func TestClosingUnderAWriteAborts(t *testing.T) {
	east, west := neighbours(t)
	s := east.open(t, west)
	result := make(chan error, 1)
	go func() {
		b := make([]byte, 32<<20) // more than the window: it blocks
		_, err := s.Write(b)
		result <- err
	}()
	far := west.accept(t)
	if _, err := far.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, <-result, net.ErrClosed)
	_, err := io.Copy(io.Discard, far)
	wantError(t, err, ErrReset)
	_ = far.Close()
}

func TestADeadlineIsATimeout(t *testing.T) {
	east, west := neighbours(t)
	s := east.open(t, west)
	defer s.Abort()
	if err := s.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Read(make([]byte, 1))
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error %v, want a timeout", err)
	}
}

func TestHTTPIsServedOnTunnels(t *testing.T) {
	east, west := neighbours(t)
	server := &http.Server{ConnContext: ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, ok := StreamFrom(r.Context())
		if !ok {
			t.Error("no stream in the request's context")
			return
		}
		if r.Method != http.MethodConnect {
			fmt.Fprintf(w, "%s asks", s.Peer())
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		if _, err := io.Copy(c, rw); err != nil {
			t.Error(err)
		}
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(west.Listener()) }()
	t.Cleanup(func() {
		_ = server.Close()
		wantError(t, <-served, http.ErrServerClosed)
	})

	s := east.open(t, west)
	_, _ = io.WriteString(s, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(s), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "east/e1 asks" {
		t.Errorf("got %q, %v", body, err)
	}
	_ = s.Close()

	s = east.open(t, west)
	_, _ = io.WriteString(s, "CONNECT orders.shop.mesh:80 HTTP/1.1\r\nHost: orders.shop.mesh:80\r\n\r\nright behind it")
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(s)
	if _, err = http.ReadResponse(r, &http.Request{Method: http.MethodConnect}); err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(r); err != nil || string(body) != "right behind it" {
		t.Errorf("got %q, %v", body, err)
	}
	_ = s.Close()
}

func TestStreamsSpreadOverTheConnections(t *testing.T) {
	east, west := neighbours(t)
	used := map[*conn]int{}
	for range 10 {
		s := east.open(t, west)
		defer s.Abort()
		used[s.conn]++
	}
	for _, n := range used {
		if n != 5 {
			t.Errorf("streams per connection: %v", used)
		}
	}
}

func TestGarbagePacketsAreHarmless(t *testing.T) {
	east, west := neighbours(t)
	west.echoes(t)
	c, err := net.Dial("udp", west.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	random := rand.NewChaCha8([32]byte{2})
	b := make([]byte, 1500)
	for i := range 20_000 {
		n := 1 + i%len(b)
		_, _ = random.Read(b[:n])
		switch i % 4 {
		case 1:
			b[0] |= 0xc0 // long header
			copy(b[1:n], []byte{0, 0, 0, 1})
		case 2:
			b[0] = b[0]&0x3f | 0x40 // short header
		case 3:
			b[0] &= 0x3f // not QUIC
		}
		_, _ = c.Write(b[:n]) // a full buffer is fine
	}
	checkEcho(t, east.open(t, west), "still here")
	if p := west.peer(east.id); p.State != Up || p.Connections != defaultConnections {
		t.Errorf("peer: %+v", p)
	}
}

func TestMetricsSayWhatTunnelsCarry(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := newWorld(t, nil)
	east := w.start("east/e1", "127.0.0.1:0", func(c *Config) { c.Metrics = reg })
	west := w.start("west/w1", "127.0.0.1:0")
	east.dials(west)
	east.await(t, west.id, "connected", connections(defaultConnections))
	west.echoes(t)
	checkEcho(t, east.open(t, west), "count me")
	west.stop()
	east.await(t, west.id, "down", isDown)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"isthmus_tunnel_connections west/w1":       0,
		"isthmus_tunnel_streams west/w1":           0,
		"isthmus_tunnel_streams_total out west/w1": 1,
		"isthmus_tunnel_closed_total stopped":      defaultConnections,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, %v; want %v", name, v, ok, want)
		}
	}
	if got["isthmus_tunnel_bytes_total out west/w1"] < 1000 || got["isthmus_tunnel_dials_total ok"] < defaultConnections {
		t.Errorf("metrics: %v", got)
	}
}

func TestAnEndpointIsOfItsCertificatesGateway(t *testing.T) {
	w := newWorld(t, nil)
	for what, cfg := range map[string]Config{
		"another gateway's": {Self: mesh.GatewayID{Cluster: "east", Name: "e1"}, Identity: w.mesh.Gateway("east", "e2"), Listen: ListenUDP("127.0.0.1:0")},
		"a workload's":      {Self: mesh.GatewayID{Cluster: "east", Name: "e1"}, Identity: w.mesh.Workload("east", "shop", "orders"), Listen: ListenUDP("127.0.0.1:0")},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "isthmus pki gateway") {
			t.Errorf("%s certificate: %v", what, err)
		}
	}
}

func TestAPortThatIsTakenIsAnError(t *testing.T) {
	w := newWorld(t, nil)
	east := w.start("east/e1", "127.0.0.1:0")
	e, err := New(Config{Self: east.id, Identity: w.mesh.Gateway("east", "e1"), Listen: ListenUDP(east.addr)})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(t.Context()); err == nil {
		t.Error("bound twice")
	}
}
