package forward_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/authorize"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// httpAt is a plain endpoint that speaks HTTP.
func httpAt(instance, address string) forward.Candidate {
	c := plainAt(instance, address)
	c.Protocol = mesh.HTTP
	return c
}

// callers are those of shop/orders in west, of which a test changes who they may be.
type callers struct {
	now atomic.Pointer[policy.Authorizer]
}

func (c *callers) are(t *testing.T, exported []uint16, policies ...policy.Policy) {
	t.Helper()
	a, err := policy.Compile(policy.SetOf(orders, exported, policies), "mesh.example", "west")
	if err != nil {
		t.Fatal(err)
	}
	c.now.Store(a)
}

func (c *callers) of(mesh.ServiceName) *policy.Authorizer { return c.now.Load() }

func rules(action policy.Action, name string, rules ...policy.Rule) policy.Policy {
	return policy.Policy{Namespace: "shop", Name: name, Action: action, Rules: rules}
}

func TestWhoMayNotCallAPlainEndpointIsToldWhy(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	addr := serve(t, echo)
	var lines lockedBuffer
	calls, err := authorize.New(authorize.Config{Log: slog.New(slog.NewTextHandler(&lines, nil))})
	if err != nil {
		t.Fatal(err)
	}
	var c callers
	p := newPair(t, m, always(httpAt("orders-1", addr)), forward.Config{}, forward.Config{Authorizer: c.of, Calls: calls})
	web := []policy.Callers{{Namespace: "front", ServiceAccount: "web"}}
	for name, test := range map[string]struct {
		exported []uint16
		policies []policy.Policy
		says     string // empty: it is served
	}{
		"the default":                 {[]uint16{80}, nil, "by default only namespace shop may call shop/orders: write allow: [shop/*, front/web] in Service shop/orders"},
		"an allow list":               {[]uint16{80}, []policy.Policy{{Namespace: "shop", Services: []string{"orders"}, Action: policy.Allow, Rules: []policy.Rule{{From: web}}}}, ""},
		"denied":                      {[]uint16{80}, []policy.Policy{rules(policy.Allow, "a", policy.Rule{From: web}), rules(policy.Deny, "b", policy.Rule{From: web})}, "AuthorizationPolicy shop/b rules[0]"},
		"not exported":                {nil, []policy.Policy{rules(policy.Allow, "a", policy.Rule{From: web})}, "is not exported by cluster west"},
		"a rule about requests":       {[]uint16{80}, []policy.Policy{rules(policy.Allow, "a", policy.Rule{From: web, Paths: []string{"/*"}})}, "nothing in AuthorizationPolicy shop/a"},
		"a denial of some requests":   {[]uint16{80}, []policy.Policy{rules(policy.Allow, "a", policy.Rule{From: web}), rules(policy.Deny, "b", policy.Rule{Methods: []string{"DELETE"}})}, "of which not every condition can be judged here"},
		"a denial of somebody else":   {[]uint16{80}, []policy.Policy{rules(policy.Allow, "a", policy.Rule{From: web}), rules(policy.Deny, "b", policy.Rule{From: []policy.Callers{{Namespace: "zoo"}}})}, ""},
		"a policy that only tries":    {[]uint16{80}, []policy.Policy{{Namespace: "shop", Name: "a", Action: policy.Allow, Rules: []policy.Rule{{From: web}}, DryRun: true}}, "by default only namespace shop"},
		"of another port than theirs": {[]uint16{80}, []policy.Policy{rules(policy.Allow, "a", policy.Rule{From: web, Ports: []uint16{81}})}, "nothing in"},
	} {
		c.are(t, test.exported, test.policies...)
		for way, ask := range ways {
			conn := tls.Client(ask(t, p.addr), m.Workload("east", "front", "web").ClientTLS(host, identity.ExactGateway(west1), "http/1.1"))
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: orders.shop.mesh\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if test.says == "" {
				if got, err := io.ReadFull(conn, make([]byte, 3)); err != nil {
					t.Errorf("%s by %s: %v %v", name, way, got, err)
				}
				_ = conn.Close()
				continue
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("%s by %s: %v", name, way, err)
			}
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusForbidden || err != nil || !strings.Contains(string(body), test.says) ||
				!strings.Contains(resp.Header.Get("Proxy-Status"), "http_request_denied") {
				t.Errorf("%s by %s: %d %v %s %v", name, way, resp.StatusCode, resp.Header, body, err)
			}
			_ = conn.Close()
		}
	}
	if !strings.Contains(lines.String(), "a call is refused") {
		t.Errorf("nothing is logged: %s", lines.String())
	}
}

// lockedBuffer is a log that is read while others write it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// reset checks that a client who asks for something is served nothing, and not told that
// this is all. The kernel tells of a reset once: the write or the read sees it.
func reset(t *testing.T, c *tls.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, "let me in"); err != nil {
		return
	}
	if n, err := io.Copy(io.Discard, c); err == nil || n > 0 {
		t.Errorf("%d bytes, %v: want a reset", n, err)
	}
}

func TestWhoMayNotCallAPlainEndpointThatSpeaksNoHTTPIsReset(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	p := newPair(t, m, always(plainAt("orders-1", serve(t, echo))), forward.Config{}, forward.Config{})
	c := tls.Client(ways["CONNECT waiting for the reply"](t, p.addr), m.Workload("east", "front", "web").ClientTLS(host, identity.ExactGateway(west1)))
	reset(t, c)
}

func TestWhoSpeaksHTTPToAPlainAutoPortThatItMayNotCallIsToldWhy(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	auto := plainAt("orders-1", serve(t, echo))
	auto.Protocol = mesh.Auto
	p := newPair(t, m, always(auto), forward.Config{}, forward.Config{})
	for name, test := range map[string]struct {
		says  string
		reset bool
	}{
		"a request":            {"GET / HTTP/1.1\r\nHost: orders.shop.mesh\r\n\r\n", false},
		"a request of HTTP1.0": {"GET / HTTP/1.0\r\n\r\n", false},
		"something else":       {"EHLO example\r\n", true},
		"a line that goes on":  {"GET / HTTP/1.1", true},
	} {
		c := tls.Client(ways["CONNECT waiting for the reply"](t, p.addr), m.Workload("east", "front", "web").ClientTLS(host, identity.ExactGateway(west1)))
		if _, err := io.WriteString(c, test.says); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		switch {
		case test.reset != (err != nil):
			t.Errorf("%s: %v, %v", name, resp, err)
		case err == nil && (resp.StatusCode != http.StatusForbidden || !strings.Contains(resp.Header.Get("Proxy-Status"), "http_request_denied")):
			t.Errorf("%s: %d %v", name, resp.StatusCode, resp.Header)
		}
		_ = c.Close()
	}
}

func TestNobodyMayCallAPlainEndpointWhileItIsNotKnownWho(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	unknown := func(mesh.ServiceName) *policy.Authorizer { return nil }
	p := newPair(t, m, always(httpAt("orders-1", serve(t, echo))), forward.Config{}, forward.Config{Authorizer: unknown})
	c := tls.Client(ways["SNI"](t, p.addr), m.Workload("west", "shop", "orders").ClientTLS(host, identity.ExactGateway(west1)))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: orders.shop.mesh\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusServiceUnavailable { // another gateway may know
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestThePortsOfAServiceAreExportedOneByOneAtTheMeshPortToo(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	var c callers
	c.are(t, []uint16{81})
	_, port := start(t, forward.Config{Self: west1, Identity: m.Gateway("west", "west-1"), Outbound: always(plainAt("orders-1", serve(t, echo))), Authorizer: c.of})
	for cluster, served := range map[mesh.ClusterName]bool{"west": true, "east": false} {
		conn := tls.Client(dial(t, port), m.Workload(cluster, "shop", "cart").ClientTLS(host, identity.ExactGateway(west1)))
		if !served {
			reset(t, conn)
			continue
		}
		if _, err := io.WriteString(conn, "one"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 3)); err != nil {
			t.Errorf("a caller of the own cluster: %v", err)
		}
	}
}

func TestAPathToAPlainEndpointEndsWhenItsCallerMayNotCallAnyMore(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	var c callers
	c.are(t, []uint16{80})
	p := newPair(t, m, always(plainAt("orders-1", serve(t, echo))), forward.Config{}, forward.Config{Authorizer: c.of})
	open := func(account string) relay.Conn {
		conn := tls.Client(ways["CONNECT waiting for the reply"](t, p.addr), m.Workload("east", "shop", account).ClientTLS(host, identity.ExactGateway(west1)))
		if _, err := io.WriteString(conn, "one"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	cart, pay := open("cart"), open("pay")
	c.are(t, []uint16{80}, rules(policy.Deny, "no-cart", policy.Rule{From: []policy.Callers{{ServiceAccount: "cart"}}}))
	p.far.JudgeCallers()
	_ = cart.SetReadDeadline(time.Now().Add(testLimit))
	if _, err := cart.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("cart: %v, want a reset", err)
	}
	if _, err := io.WriteString(pay, "two"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(pay, make([]byte, 3)); err != nil {
		t.Errorf("pay: %v", err)
	}
}
