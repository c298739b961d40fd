package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/authorize"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// guarded is a sidecar of orders with a policy, and a program beside.
type guarded struct {
	*world
	proxy   *Proxy
	policy  state.Store[*policy.Authorizer]
	metrics *prometheus.Registry
}

func (w *world) guarded(target string, protocol mesh.Protocol) *guarded {
	w.t.Helper()
	g := &guarded{world: w, metrics: prometheus.NewRegistry()}
	observer, err := authorize.New(authorize.Config{Metrics: g.metrics})
	if err != nil {
		w.t.Fatal(err)
	}
	g.proxy, err = New(Config{Identity: w.mesh.Workload("east", orders.Namespace, orders.Name), Log: w.log, Inbound: &Inbound{
		Listen:  "127.0.0.1:0",
		Ports:   []Served{{Service: orders, Port: dest.Port, Target: target, Protocol: protocol, Policy: &g.policy, Observer: observer}},
		Steered: &Steered{Listen: []string{"127.0.0.1:0"}, Permissive: true},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.run(g.proxy)
	return g
}

// say has these policies decide from now on; exported says whether other clusters may call.
func (g *guarded) say(exported bool, policies ...policy.Policy) {
	g.t.Helper()
	var ports []uint16
	if exported {
		ports = []uint16{dest.Port}
	}
	a, err := policy.Compile(policy.SetOf(orders, ports, policies), "mesh.example", "east")
	if err != nil {
		g.t.Fatal(err)
	}
	g.policy.Set(a)
}

// dial is a connection of a caller to the inbound listener.
func (g *guarded) dial(caller *identity.Source) *tls.Conn {
	g.t.Helper()
	c, err := tls.Dial("tcp", inboundAddr(g.proxy).String(), caller.ClientTLS(orders.Host(), identity.AnyMember()))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// asks sends a request with a target and returns the answer and its body.
func (g *guarded) asks(c net.Conn, target string) (int, string) {
	g.t.Helper()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: orders\r\n\r\n", target)
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 1), nil)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func callersOf(t *testing.T, text string) []policy.Callers {
	t.Helper()
	c, err := policy.ParseCallers(text)
	if err != nil {
		t.Fatal(err)
	}
	return []policy.Callers{c}
}

// target says what path the program was asked for.
func target() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })
}

func TestEachRequestIsDecidedByThePolicyOfItsMoment(t *testing.T) {
	w := newWorld(t)
	g := w.guarded(w.program(target()), mesh.HTTP)
	c := g.dial(w.caller)
	expect := func(path string, status int, says string) {
		t.Helper()
		if got, body := g.asks(c, path); got != status || !strings.Contains(body, says) {
			t.Errorf("%s: %d %q, want %d %q", path, got, body, status, says)
		}
	}
	expect("/a", 503, "no gateway has told this sidecar who may call yet")
	g.say(false)
	expect("/a", 200, "/a")
	closed := policy.Policy{Namespace: "shop", Name: "closed", Action: policy.Deny, Rules: []policy.Rule{{Paths: []string{"/admin/*"}}}}
	g.say(false, closed)
	expect("/a?b", 200, "/a?b")
	for _, disguise := range []string{"/admin", "/admin/x", "/%61dmin/", "//admin/", "/a/../admin/", "http://other/admin/", "/ADMIN/x"} {
		expect(disguise, 403, "AuthorizationPolicy shop/closed rules[0]")
	}
	expect("/admin%2fx", 403, "not every condition can be judged here") // who knows what the program makes of it
	expect("/a/./%62//c?d=%2e", 200, "/a/b/c?d=%2e")
	closed.DryRun = true
	g.say(false, closed)
	expect("/admin/x", 200, "/admin/x")
	g.say(false, policy.Policy{Namespace: "shop", Name: "readers", Action: policy.Allow, Rules: []policy.Rule{{From: callersOf(t, "shop/cart")}}})
	expect("/a", 403, "AuthorizationPolicy shop/readers")
	g.say(false)
	expect("/a", 200, "/a") // on the same connection

	count := map[string]float64{}
	families, err := g.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				count[f.GetName()+" "+l.GetValue()] += m.GetCounter().GetValue()
			}
		}
	}
	for name, want := range map[string]float64{
		"isthmus_authorization_decisions_total refused": 9, "isthmus_authorization_decisions_total allowed": 5,
		"isthmus_authorization_dry_run_total refused": 1,
	} {
		if count[name] != want {
			t.Errorf("%s is %v, want %v", name, count[name], want)
		}
	}
}

func TestWhatIsNotExportedIsCallableFromItsOwnClusterOnly(t *testing.T) {
	w := newWorld(t)
	g := w.guarded(w.program(target()), mesh.HTTP)
	far := g.dial(w.mesh.Workload("west", "shop", "web")) // straight to 15008, whatever way it came
	gateway := g.dial(w.mesh.Gateway("east", "east-1"))
	g.say(false)
	if status, body := g.asks(far, "/"); status != 403 || !strings.Contains(body, "is not exported by cluster east") {
		t.Errorf("%d %s", status, body)
	}
	g.say(true)
	if status, body := g.asks(far, "/"); status != 200 {
		t.Errorf("exported: %d %s", status, body)
	}
	if status, body := g.asks(gateway, "/"); status != 403 || !strings.Contains(body, "calls for a program without a sidecar") {
		t.Errorf("a gateway is served: %d %s", status, body)
	}
}

// echoes is a program that says what it hears, to many at a time.
func echoes(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	return l.Addr().String()
}

func TestATCPConnectionIsDecidedOnceAndEndsWithThePolicy(t *testing.T) {
	w := newWorld(t)
	g := w.guarded(echoes(t), mesh.TCP)
	says := func(c net.Conn) error {
		if _, err := fmt.Fprint(c, "ping"); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 4))
		return err
	}
	if err := says(g.dial(w.caller)); err == nil {
		t.Error("served before the policy is known")
	}
	g.say(false)
	near, cart, far := g.dial(w.caller), g.dial(w.mesh.Workload("east", "shop", "cart")), g.dial(w.mesh.Workload("west", "shop", "web"))
	if err := says(near); err != nil {
		t.Fatal(err)
	}
	if err := says(cart); err != nil {
		t.Fatal(err)
	}
	if err := says(far); err == nil {
		t.Error("a caller of another cluster is served, and the service is not exported")
	}
	g.say(false, policy.Policy{Namespace: "shop", Name: "web", Action: policy.Deny, Rules: []policy.Rule{{From: callersOf(t, "shop/web")}}})
	if _, err := near.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection of who may not call any more: %v", err)
	}
	if err := says(g.dial(w.caller)); err == nil {
		t.Error("and a new one is served")
	}
	if err := says(cart); err != nil {
		t.Errorf("the connection of who may: %v", err)
	}
	g.say(false)
	if err := says(g.dial(w.caller)); err != nil {
		t.Errorf("once it may again: %v", err)
	}
}

func TestAnUpgradedConnectionEndsWithThePolicyOfItsRequest(t *testing.T) {
	w := newWorld(t)
	g := w.guarded(w.program(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, both)
	})), mesh.HTTP)
	g.say(false)
	open := func(path string) *bufio.ReadWriter {
		t.Helper()
		c := g.dial(w.caller)
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", path)
		both := bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
		if resp, err := http.ReadResponse(both.Reader, nil); err != nil || resp.StatusCode != 101 {
			t.Fatalf("%s: %v, %v", path, resp, err)
		}
		return both
	}
	says := func(c *bufio.ReadWriter) error {
		fmt.Fprint(c, "ping")
		if err := c.Flush(); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 4))
		return err
	}
	news, admin := open("/news"), open("/admin/log")
	if says(news) != nil || says(admin) != nil {
		t.Fatal("not upgraded")
	}
	g.say(false, policy.Policy{Namespace: "shop", Name: "closed", Action: policy.Deny, Rules: []policy.Rule{{Paths: []string{"/admin/*"}}}})
	if _, err := admin.ReadByte(); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("what may not be asked for any more goes on: %v", err)
	}
	if err := says(news); err != nil {
		t.Errorf("and what may ends: %v", err)
	}
}

func TestACallerWithoutIdentityNeedsARuleThatNamesIt(t *testing.T) {
	w := newWorld(t)
	g := w.guarded(w.program(target()), mesh.HTTP)
	plain := "http://" + g.proxy.Steered()[0].Addr().String() + "/a"
	g.say(true)
	if status, body := get(t, httpClient(t), plain); status != 403 || !strings.Contains(body, "write allow: [shop/*, anonymous] in Service shop/orders") {
		t.Errorf("%d %s", status, body)
	}
	g.say(true, policy.Policy{Namespace: "shop", Services: []string{"orders"}, Action: policy.Allow, Rules: []policy.Rule{{From: callersOf(t, "anonymous")}}})
	if status, body := get(t, httpClient(t), plain); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}
