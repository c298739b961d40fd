package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// Instances come and go under steady traffic, killed or drained, with the route
// lagging behind: no request may fail.
func TestNoRequestIsLostWhileInstancesComeAndGo(t *testing.T) {
	w := newWorld(t)
	var killed, drained atomic.Int64
	start := func() (*Proxy, mesh.Endpoint) {
		id := w.mesh.Workload("east", orders.Namespace, orders.Name)
		p, err := New(Config{Identity: id, Inbound: &Inbound{
			Listen: "127.0.0.1:0", Ports: []Served{{Service: orders, Port: 80, Target: w.program(http.HandlerFunc(echoBody)), Protocol: mesh.HTTP}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		w.run(p)
		addr := inboundAddr(p).String()
		return p, mesh.Endpoint{Instance: addr, Address: addr, Ready: true, Weight: 1, Identity: id.ID().String()}
	}
	set := upstream.New(upstream.Config{Identity: w.caller, Cluster: "east"})
	t.Cleanup(set.Close)
	out, err := New(Config{Routes: routes.NewStore(nil, nil), Upstreams: set, Explicit: []Explicit{{Listen: "127.0.0.1:0", Destination: dest}}})
	if err != nil {
		t.Fatal(err)
	}
	stays, ep := start()
	_ = stays
	set.Update([]*mesh.Route{route(mesh.HTTP, ep)})
	w.run(out)
	url := "http://" + explicitAddr(out).String()

	ctx, stop := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	var served atomic.Int64
	c := httpClient(t)
	for range 6 {
		workers.Go(func() {
			for ctx.Err() == nil {
				resp, err := c.Get(url)
				if err != nil {
					t.Errorf("request failed: %v", err)
					return
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 || string(b) != "GET " || err != nil {
					t.Errorf("%d %q, %v", resp.StatusCode, b, err)
					return
				}
				served.Add(1)
			}
		})
	}
	// waitFor lets n more requests pass: the only clock of this test.
	waitFor := func(n int64) {
		for until := served.Load() + n; served.Load() < until && !t.Failed(); {
			get(t, c, url)
		}
	}
	for round := range 12 {
		p, extra := start()
		set.Update([]*mesh.Route{route(mesh.HTTP, ep, extra)})
		waitFor(30)
		end, cancel := context.WithCancel(context.Background())
		if round%2 == 0 {
			cancel() // kill: connections are reset
			killed.Add(1)
		} else {
			drained.Add(1)
		}
		if err := p.Shutdown(end); err != nil && round%2 == 1 {
			t.Errorf("drain: %v", err)
		}
		cancel()
		waitFor(10) // the route still names it
		set.Update([]*mesh.Route{route(mesh.HTTP, ep)})
	}
	stop()
	workers.Wait()
	t.Log(fmt.Sprint(served.Load(), " requests, ", killed.Load(), " kills, ", drained.Load(), " drains"))
}

func TestAClientThatLeavesWhileItWaitsEndsTheRequestAtTheProgram(t *testing.T) {
	w := newWorld(t)
	entered := make(chan struct{})
	left := make(chan struct{})
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	}))))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addr, nil)
		if resp, err := httpClient(t).Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	<-entered
	cancel()
	<-left
	<-ended
}
