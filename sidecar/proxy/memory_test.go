//go:build !race

// Under the race detector pools forget at random.

package proxy

import (
	"net"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// A call through a sidecar costs no memory once its connections are there: pools are emptied now
// and then, which is far from one per call.
func TestACallAllocatesNothingButItsDeadline(t *testing.T) {
	addr := newWorld(t).outbound(route(mesh.GRPC, plainAt("a", unary(t))))
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := streams.Client(nc.(relay.Conn), streams.Config{})
	defer c.Close()
	call := newCall()
	if n := testing.AllocsPerRun(2000, func() {
		if err := call.make(c); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("a call allocates %v times", n)
	}
}

func TestRulesCostACallNoMemory(t *testing.T) {
	changed := mesh.Fields{Set: []mesh.Field{{Name: "x-set", Value: "1"}}, Add: []mesh.Field{{Name: "x-add", Value: "1"}}, Remove: []string{"x-remove"}}
	addr := newWorld(t).routed(grpcRules([]mesh.Rule{
		{Name: "other", Match: callOf("other", "Method"), Action: mesh.Action{Backends: to("v1")}},
		{Name: "all", Match: mesh.Match{Path: mesh.PathMatch{Kind: mesh.Prefix, Value: "/"}, Headers: []mesh.ValueMatch{{Name: "content-type", Kind: mesh.Regex, Value: "application/.*"}}},
			Action: mesh.Action{Backends: to("v1"), Request: changed, Response: changed, Rewrite: mesh.Rewrite{Host: "other.example"},
				Retry: &mesh.Retry{Codes: []int{503}, Statuses: []string{"UNAVAILABLE"}, Attempts: 2, Backoff: time.Millisecond}}},
	}, map[string]string{"v1": unary(t)}))
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := streams.Client(nc.(relay.Conn), streams.Config{})
	defer c.Close()
	unary := newCall()
	if n := testing.AllocsPerRun(2000, func() {
		if err := unary.make(c); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("a call by rules allocates %v times", n)
	}
}
