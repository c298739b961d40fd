package forward_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ofCluster is a tunnel's stream as far as bounds are concerned.
type ofCluster struct {
	*net.TCPConn
	cluster mesh.ClusterName
}

func (o ofCluster) Peer() mesh.GatewayID { return mesh.GatewayID{Cluster: o.cluster, Name: "gw"} }

// tunnels accepts what stands for the streams of one cluster's gateway.
type tunnels struct {
	net.Listener
	cluster mesh.ClusterName
}

func (l tunnels) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return ofCluster{c.(*net.TCPConn), l.cluster}, nil
}

// from lets a cluster's gateway ask f for paths, and returns where.
func from(t *testing.T, f *forward.Forward, cluster mesh.ClusterName) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(f.ServeTunnel)}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(tunnels{l, cluster}) }()
	t.Cleanup(func() { _ = srv.Close(); <-served })
	return l.Addr().String()
}

func TestIdlePathsOfAnotherClusterLeaveRoomForOnesOwnAndForThirds(t *testing.T) {
	here := always(at("orders-1", serve(t, echo)))
	f, port := start(t, forward.Config{Inbound: here, Outbound: here, Paths: 40, PathsPerSource: 40})
	hostile, third := from(t, f, "hostile"), from(t, f, "third")
	ask := func(addr string) *http.Response {
		c := dial(t, addr)
		_, _ = c.Write(append([]byte(connectHead()), hello(t)...))
		return reply(t, c)
	}
	opened := 0
	for range 40 {
		c := dial(t, hostile)
		_, _ = c.Write(append([]byte(connectHead()), hello(t)...))
		if reply(t, c).StatusCode != http.StatusOK {
			continue
		}
		opened++
		prove(t, c)
	}
	if opened != 15 { // a quarter is kept for this cluster, and half of the rest for others
		t.Errorf("another cluster holds %d of 40 paths, want 15", opened)
	}
	if resp := ask(third); resp.StatusCode != http.StatusOK {
		t.Errorf("a third cluster is refused: %s", resp.Header.Get("Proxy-Status"))
	}
	for range 24 {
		if resp := ask(port); resp.StatusCode != http.StatusOK {
			t.Fatalf("a caller of this cluster is refused: %s", resp.Header.Get("Proxy-Status"))
		}
	}
	refused(t, ask(port), http.StatusServiceUnavailable, connect.ConnectionLimit)
}

// prove has the client of an open path whose endpoint echoes seem to end its handshake: it
// reads an answer to its ClientHello, and sends an encrypted record.
func prove(t *testing.T, c net.Conn) {
	t.Helper()
	goOn(t, c, "\x17\x03\x03\x00\x01x")
}

// goOn has the client read an answer to its ClientHello, and say something that comes back.
func goOn(t *testing.T, c net.Conn, what string) {
	t.Helper()
	if _, err := io.ReadFull(c, make([]byte, len(hello(t)))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, what); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len(what))); err != nil {
		t.Fatal(err)
	}
}

func TestStrangersAtAnotherClusterDoNotKeepItsCallersOut(t *testing.T) {
	f, _ := start(t, forward.Config{Inbound: always(at("orders-1", serve(t, echo))), Paths: 40})
	// Two gateways of one cluster, on whose mesh ports strangers ask for paths.
	gateways := []string{from(t, f, "west"), from(t, f, "west")}
	ask := func(i int) (net.Conn, int) {
		c := dial(t, gateways[i%2])
		_, _ = c.Write(append([]byte(connectHead()), hello(t)...))
		return c, reply(t, c).StatusCode
	}
	caller, _ := ask(0)
	prove(t, caller)
	var strangers []net.Conn
	for i := range 60 {
		c, code := ask(i)
		if code != http.StatusOK {
			t.Fatalf("path %d: %d, want that another one makes room", i, code)
		}
		switch i % 3 {
		case 0: // says nothing
			_, _ = io.ReadFull(c, make([]byte, len(hello(t))-1))
		case 1: // half a record, for whose end the endpoint waits
			goOn(t, c, "\x17\x03\x03\x40")
		case 2: // another ClientHello
			goOn(t, c, string(hello(t)))
			_, _ = c.Write([]byte{22}) // for the echo
		}
		strangers = append(strangers, c)
	}
	second, code := ask(1)
	if code != http.StatusOK {
		t.Fatalf("a caller gets %d, since strangers have every path of its cluster", code)
	}
	prove(t, second)
	if _, err := io.Copy(io.Discard, strangers[0]); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the oldest path of a stranger ends with %v, want a reset", err)
	}
	if _, err := io.ReadFull(strangers[59], make([]byte, 1)); err != nil {
		t.Errorf("the youngest path of a stranger: %v", err)
	}
	for _, c := range []net.Conn{caller, second} { // those who have proved who they are go on
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for {
		if paths, _, _, _, _ := f.Held(); paths == 15 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWhoProvesNothingDoesNotKeepOtherCallersOut(t *testing.T) {
	here := always(at("orders-1", serve(t, echo)))
	_, port := start(t, forward.Config{Outbound: here, Paths: 40, PathsPerSource: 10})
	ask := func(host byte) (net.Conn, *http.Response) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, host)}, Timeout: testLimit}
		c, err := d.DialContext(t.Context(), "tcp", port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(testLimit))
		_, _ = c.Write([]byte(connectHead()))
		return c, reply(t, c)
	}
	var oldest net.Conn
	for i := range byte(30) { // three hosts have every path that this cluster's callers may have
		c, resp := ask(10 + i/10)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("path %d: %s", i, resp.Header.Get("Proxy-Status"))
		}
		if i == 0 {
			oldest = c
		}
	}
	if _, resp := ask(12); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("who has as many as one may have gets another: %s", resp.Status)
	}
	for range 5 {
		if _, resp := ask(20); resp.StatusCode != http.StatusOK {
			t.Fatalf("a caller that has few is refused: %s", resp.Header.Get("Proxy-Status"))
		}
	}
	if _, err := oldest.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the oldest path of who has most: %v, want that it is cut", err)
	}
	_, port = start(t, forward.Config{Outbound: here, Paths: 4, PathsPerSource: 4})
	for range 3 {
		ask(10)
	}
	if _, resp := ask(10); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a caller makes room for itself: %s", resp.Status)
	}
}

func TestSilentConnectionsToTheMeshPortUseUpNoPaths(t *testing.T) {
	_, port := start(t, forward.Config{Outbound: always(at("orders-1", serve(t, echo))), PathsPerSource: 2})
	for range 50 {
		dial(t, port)
	}
	open(t, port)
	open(t, port)
}

func TestPathsOnWhichNobodyShakesHandsMakeRoom(t *testing.T) {
	limits, err := limit.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	f, port := start(t, forward.Config{Outbound: always(at("orders-1", serve(t, echo))), Limits: limits})
	// The endpoint echoes the ClientHello, and what follows that is taken for the proof.
	proved := open(t, port)
	prove := func() {
		t.Helper()
		if _, err := proved.Write([]byte("proof")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(proved, make([]byte, 5)); err != nil {
			t.Fatalf("a path on which hands were shaken was cut: %v", err)
		}
	}
	prove()
	silent := open(t, port)
	limits.Shed()
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read on a path without a handshake gives %v, want a reset", err)
	}
	prove()
	for {
		if paths, _, _, _, _ := f.Held(); paths == 1 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
