package authorize

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"

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
	if n := strings.Count(lines.String(), "a call is refused"); n != logBurst {
		t.Errorf("%d lines of %d refusals", n, 2*logBurst)
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
