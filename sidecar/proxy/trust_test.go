package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAnInboundConnectionEndsWhenItsCallerIsNotTrustedAnyMore(t *testing.T) {
	w := newWorld(t)
	strangers := identitytest.New(t, "mesh.example")
	dir := w.mesh.WorkloadDir("east", orders.Namespace, orders.Name)
	roots := filepath.Join(dir, "roots.pem")
	ours, err := os.ReadFile(roots)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(filepath.Join(strangers.WorkloadDir("west", "shop", "web"), "roots.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(roots, append(ours[:len(ours):len(ours)], theirs...), 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := identity.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- id.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	p, err := New(Config{Identity: id, Log: w.log, Inbound: &Inbound{
		Listen: "127.0.0.1:0", Ports: []Served{{Service: orders, Port: dest.Port, Target: w.program(http.HandlerFunc(echoBody)), Protocol: mesh.HTTP}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.run(p)
	// The server is w's: a stranger that trusts it needs w's root only, and has its own.
	dial := func(caller *identity.Source) *tls.Conn {
		t.Helper()
		config := caller.ClientTLS(orders.Host(), identity.AnyMember(), "http/1.1")
		config.VerifyConnection = nil // whom the caller trusts is not what is tested
		c, err := tls.Dial("tcp", inboundAddr(p).String(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	stranger, member := dial(strangers.Workload("west", "shop", "web")), dial(w.caller)
	if _, err := io.WriteString(stranger, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Read(make([]byte, 1)); err != nil {
		t.Fatalf("before: %v", err)
	}
	if err := os.WriteFile(roots+"~", ours, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(roots+"~", roots); err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, stranger)
	if err == nil || os.IsTimeout(err) {
		t.Errorf("the stranger's connection: %v, want a reset", err)
	}
	if _, err := io.WriteString(member, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := member.Read(make([]byte, 1)); err != nil {
		t.Errorf("the member's connection: %v", err)
	}
}

func TestARelayedConnectionEndsWhenItsHostIsNotTrustedAnyMore(t *testing.T) {
	w := newWorld(t)
	strangers := identitytest.New(t, "mesh.example")
	dir := w.mesh.WorkloadDir("east", "shop", "web")
	roots := filepath.Join(dir, "roots.pem")
	ours, err := os.ReadFile(roots)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(filepath.Join(strangers.WorkloadDir("west", "shop", "web"), "roots.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(roots, append(ours[:len(ours):len(ours)], theirs...), 0o600); err != nil {
		t.Fatal(err)
	}
	if w.caller, err = identity.Open(dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.caller.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	host := strangers.Workload("east", orders.Namespace, orders.Name)
	addr := fakes(t, func(c *net.TCPConn) {
		config := host.ServerTLS(identitytest.AnyWorkload())
		config.VerifyConnection = nil // whom the host trusts is not what is tested
		over := tls.Server(c, config)
		_, _ = io.Copy(over, over)
	})
	at := plainAt("a", addr)
	at.Identity = host.ID().String()
	c, err := net.Dial("tcp", w.outbound(route(mesh.TCP, at)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatalf("before: %v", err)
	}
	if err := os.WriteFile(roots+"~", ours, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(roots+"~", roots); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF || os.IsTimeout(err) {
		t.Errorf("%v, want a reset", err)
	}
}
