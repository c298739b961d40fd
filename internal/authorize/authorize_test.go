package authorize

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
)

func TestARefusalIsCountedAndLoggedAndAnAllowedCallCostsNothing(t *testing.T) {
	var lines bytes.Buffer
	reg := prometheus.NewRegistry()
	o, err := New(Config{Log: slog.New(slog.NewTextHandler(&lines, nil)), Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	service := mesh.ServiceName{Namespace: "shop", Name: "orders"}
	tries := policy.Policy{Namespace: "shop", Name: "try", Action: policy.Deny, Rules: []policy.Rule{{From: []policy.Callers{{ServiceAccount: "cart"}}}}, DryRun: true}
	a, err := policy.Compile(policy.SetOf(service, []uint16{80}, []policy.Policy{tries}), "mesh.example", "east")
	if err != nil {
		t.Fatal(err)
	}
	call := func(ns, sa string) *Call {
		return &Call{Caller: &policy.Caller{ID: identity.ID{TrustDomain: "mesh.example", Cluster: "west", Namespace: ns, ServiceAccount: sa}},
			Peer: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 5}, To: mesh.Destination{Service: service, Port: 80}, Method: []byte("GET"), Path: []byte("/")}
	}
	decide := func(c *Call) policy.Decision { return a.Connection(c.Caller, 80) }
	synctest.Test(t, func(*testing.T) { // no time passes
		for range 2 * logBurst {
			c := call("front", "web")
			d := decide(c)
			o.Decided(a, &d, c)
		}
	})
	if n := strings.Count(lines.String(), "a call is refused"); n != 1 {
		t.Errorf("%d lines of %d refusals that are alike", n, 2*logBurst)
	}
	if !strings.Contains(lines.String(), "write allow: [shop/*, front/web] in Service shop/orders") || !strings.Contains(lines.String(), "GET /") {
		t.Errorf("%s", lines.String())
	}
	c := call("shop", "cart")
	d := decide(c)
	o.Decided(a, &d, c)
	o.Ended(a, &d, c)
	c = call("shop", "pay")
	d = decide(c)
	if n := testing.AllocsPerRun(10, func() { o.Decided(a, &d, c) }); n != 0 {
		t.Errorf("%v allocations for an allowed call", n)
	}
	for _, want := range []struct {
		counter prometheus.Counter
		is      float64
	}{{o.refused[policy.ByDefault], 2 * logBurst}, {o.allowed[policy.ByDefault], 12}, {o.refuses, 1}, {o.allows, 0}, {o.rejudged, 1}} {
		if got := testutil.ToFloat64(want.counter); got != want.is {
			t.Errorf("%s: %v, want %v", want.counter.Desc(), got, want.is)
		}
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestRefusedCallsAreALineAMinuteForEachCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		o, err := New(Config{Log: slog.New(slog.NewTextHandler(&lines, nil))})
		if err != nil {
			t.Fatal(err)
		}
		call := func(who, path string) *Call {
			return &Call{Caller: &policy.Caller{ID: identity.ID{TrustDomain: "mesh.example", Cluster: "west", Namespace: "front", ServiceAccount: who}},
				To: mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}, Method: []byte("GET"), Path: []byte(path)}
		}
		for i := range 100 { // 50 seconds
			o.say("a call is refused", call("web", fmt.Sprint("/", i)), "no rule")
			time.Sleep(500 * time.Millisecond)
		}
		if n := strings.Count(lines.String(), "a call is refused"); n != 1 {
			t.Errorf("%d lines of one caller", n)
		}
		time.Sleep(logPause)
		lines.Reset()
		o.say("a call is refused", call("web", "/last"), "no rule")
		if !strings.Contains(lines.String(), "count=100") || !strings.Contains(lines.String(), "/last") {
			t.Errorf("after a minute: %q", lines.String())
		}
		lines.Reset()
		time.Sleep(logPause)
		for i := range 2 * maxSaid { // at once
			o.say("a call is refused", call(fmt.Sprint("web-", i), "/"), "no rule")
		}
		if n := strings.Count(lines.String(), "a call is refused"); n != logBurst || len(o.said.all) > maxSaid {
			t.Errorf("%d lines of many callers, %d are remembered", n, len(o.said.all))
		}
	})
}

func TestWhatACallerChoosesIsAnExample(t *testing.T) {
	to := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}
	for _, c := range []struct{ method, path, what, example string }{
		{"GET", "/a", " GET", "/a"}, {"BREW", "/a", " (another method)", "BREW /a"}, {"", "", "", ""},
	} {
		what, example := (&Call{To: to, Method: []byte(c.method), Path: []byte(c.path)}).what()
		if what != to.String()+c.what || example != c.example {
			t.Errorf("%s %s: %q, %q", c.method, c.path, what, example)
		}
	}
}
