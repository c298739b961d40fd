package xds

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

func namedRoute() *mesh.Route {
	r := routeTo("legacy", 1)
	r.Local = append(r.Local, mesh.Endpoint{Instance: "named", Address: "localhost:80", Ready: true, Weight: 1},
		mesh.Endpoint{Instance: "nowhere", Address: "nowhere.invalid:80", Ready: true, Weight: 1})
	return r
}

func TestOnlyWhoTakesHostNamesIsSentThem(t *testing.T) {
	g := start(t, identitytest.New(t, "mesh.example"), "", namedRoute())
	cluster, err := xds.Encode(namedRoute())
	if err != nil {
		t.Fatal(err)
	}
	addresses := func(c *client) []string {
		t.Helper()
		route, err := xds.Decode(cluster.Cluster.Resource.Value, c.next().Resources[0].Resource.Value, nil)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range route.Local {
			all = append(all, e.Address)
		}
		return slices.Sorted(slices.Values(all))
	}
	ours := g.dial("web")
	ours.send(&discoveryv3.DeltaDiscoveryRequest{Node: xds.Node("web"), ResourceNamesSubscribe: resourceNames([]string{"legacy"})})
	if got, want := addresses(ours), []string{"10.0.1.1:15008", "localhost:80", "nowhere.invalid:80"}; !slices.Equal(got, want) {
		t.Errorf("our sidecar is told %v, want %v", got, want)
	}
	envoy := g.dial("envoy")
	envoy.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: resourceNames([]string{"legacy"})})
	for {
		got := addresses(envoy)
		for _, a := range got {
			if _, err := netip.ParseAddrPort(a); err != nil {
				t.Fatalf("Envoy is told %v", got)
			}
		}
		if len(got) == 2 {
			break // localhost has been resolved
		}
	}
}

func TestAHostNameIsResolvedAgainAndKeepsItsAddressWhileItsServerIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		answer, fault := []string{"10.0.0.1", "10.0.0.2"}, error(nil)
		set := func(err error, addrs ...string) {
			mu.Lock()
			defer mu.Unlock()
			answer, fault = addrs, err
		}
		h := newHosts(func(context.Context, string) (addrs []netip.Addr, err error) {
			mu.Lock()
			defer mu.Unlock()
			for _, a := range answer {
				addrs = append(addrs, netip.MustParseAddr(a))
			}
			return addrs, fault
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { h.run(ctx) })
		defer run.Wait()
		defer cancel()
		h.use(map[string]struct{}{"db": {}})
		now := func(want string) {
			t.Helper()
			synctest.Wait()
			got := ""
			for _, e := range h.numeric([]mesh.Endpoint{{Address: "db:80"}}) {
				got = e.Address
			}
			if got != want {
				t.Errorf("is %q, want %q", got, want)
			}
		}
		now("10.0.0.1:80")
		set(nil, "10.0.0.2", "10.0.0.1") // another order says nothing
		time.Sleep(resolveInterval)
		now("10.0.0.1:80")
		set(nil, "10.0.0.3")
		time.Sleep(resolveInterval)
		now("10.0.0.3:80")
		set(errors.New("no answer"))
		time.Sleep(resolveInterval)
		now("10.0.0.3:80")
		set(&net.DNSError{Err: "no such host", IsNotFound: true})
		time.Sleep(resolveRetry)
		now("")
		set(nil, "10.0.0.4")
		time.Sleep(resolveRetry)
		now("10.0.0.4:80")
		h.use(nil)
		now("")
	})
}
