package tlsport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/limit"
)

// serve runs a port that echoes until the test ends.
func serve(t *testing.T, m *identitytest.Mesh, strangers, most int) (*Port, string) {
	t.Helper()
	return serveAs(t, m.Gateway("east", "east-1"), strangers, most, 0)
}

func serveAs(t *testing.T, gw *identity.Source, strangers, most int, lastWords time.Duration) (*Port, string) {
	t.Helper()
	return serveWith(t, gw, strangers, most, lastWords, nil)
}

func serveWith(t *testing.T, gw *identity.Source, strangers, most int, lastWords time.Duration, reg prometheus.Registerer) (*Port, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limits, err := limit.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	p := New(Config{
		Listener: l, TLS: gw.ServerTLS(identitytest.WorkloadOf("east"), "h2"), Turns: limits.Turns,
		Trusts: func(cs tls.ConnectionState) error { return gw.Trust().Trusts(cs, identitytest.WorkloadOf("east")) }, Past: gw.Trust().Past, LastWords: lastWords,
		Strangers: limits.Port("test", strangers), Max: most,
	})
	var run sync.WaitGroup
	run.Go(p.Run)
	run.Go(func() {
		for {
			c, err := p.Accept()
			if err != nil {
				return
			}
			run.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { _ = p.Close(); run.Wait() })
	return p, l.Addr().String()
}

// call shakes hands and has one word echoed.
func call(t *testing.T, addr string, id *identity.Source) (*tls.Conn, error) {
	t.Helper()
	below, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = below.Close() })
	_ = below.SetDeadline(time.Now().Add(time.Minute))
	c := tls.Client(below, id.ClientTLS("", identity.GatewayOf("east"), "h2"))
	if err := c.HandshakeContext(context.Background()); err != nil {
		return nil, err
	}
	b := make([]byte, 5)
	_, err = c.Write([]byte("hello"))
	if err == nil {
		_, err = io.ReadFull(c, b)
	}
	return c, err
}

func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	reg := prometheus.NewRegistry()
	_, addr := serveWith(t, m.Gateway("east", "east-1"), 8, 32, 0, reg)
	id := m.Workload("east", "shop", "web")
	stays, err := call(t, addr, id)
	if err != nil {
		t.Fatal(err)
	}
	var silent []net.Conn
	for range 100 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	if _, err := call(t, addr, id); err != nil {
		t.Errorf("a peer is kept out: %v", err)
	}
	// Cut for others, that is, and not because their time was over.
	if n, err := testutil.GatherAndCount(reg, "isthmus_limit_strangers_shed_total"); n != 1 || err != nil {
		t.Errorf("nobody was cut to make room: %v", err)
	}
	_ = silent[0].SetDeadline(time.Now().Add(time.Minute))
	var late net.Error
	if _, err := silent[0].Read(make([]byte, 1)); err == nil || errors.As(err, &late) && late.Timeout() {
		t.Errorf("the oldest silent connection is still there: %v", err)
	}
	if _, err := stays.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(stays, make([]byte, 5)); err != nil {
		t.Errorf("one that had proved who it is was cut: %v", err)
	}
}

func TestOnePeerLeavesRoomForAnother(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	p, addr := serve(t, m, 4, 18)
	hog, web := m.Workload("east", "shop", "hog"), m.Workload("east", "shop", "web")
	held := 0
	for range 20 {
		if _, err := call(t, addr, hog); err == nil {
			held++
		}
	}
	if held != 16 {
		t.Errorf("one peer holds %d of 18 connections, want 16", held)
	}
	if _, err := call(t, addr, web); err != nil {
		t.Errorf("another peer is kept out: %v", err)
	}
	if p.Len() != held+1 {
		t.Errorf("%d connections are counted", p.Len())
	}
}

func TestWhoIsNoPeerIsRefused(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	_, addr := serve(t, m, 4, 18)
	if _, err := call(t, addr, m.Workload("west", "shop", "web")); err == nil {
		t.Error("a workload of another cluster is let in")
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	if _, err := io.Copy(io.Discard, c); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("it stays")
	}
}

func TestWhoIsRevokedHearsSoAndIsCutWhetherItReadsOrNot(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	gw, orders := m.Gateway("east", "east-1"), m.Workload("east", "shop", "orders")
	const lastWords = 500 * time.Millisecond
	_, addr := serveAs(t, gw, 8, 8, lastWords)
	c, err := call(t, addr, orders)
	if err != nil {
		t.Fatal(err)
	}
	revoked, err := identity.Bundle{TrustDomain: "mesh.example", Number: 1, Roots: []*x509.Certificate{m.Root.Certificate()},
		Revoked: []identity.Revocation{{What: orders.ID().String()}}}.Sign(m.Root)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := gw.Trust().Accept(revoked.Bytes()); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if took := time.Since(begun); took < lastWords {
		t.Errorf("cut after %v, before it could hear why", took)
	}
}
