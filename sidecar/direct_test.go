package sidecar

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
)

var (
	shopDB   = mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "db"}, Cluster: "east"}
	shopDBIP = netip.MustParseAddrPort("10.43.0.5:5432")
	podDB0   = netip.MustParseAddrPort("10.42.0.7:5432")
	podDB1   = netip.MustParseAddrPort("10.42.0.8:5432")
	podOwn   = netip.MustParseAddrPort("10.42.0.9:5432")
)

// kernel is what captures.
type kernel struct {
	mu       sync.Mutex
	captured map[netip.AddrPort]bool
	err      error
}

func (k *kernel) addresses() map[netip.AddrPort]bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.captured)
}

// forget is as if it were put in place anew, and answers err from now on.
func (k *kernel) forget(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.captured, k.err = map[netip.AddrPort]bool{}, err
}

func direct(variables map[netip.AddrPort]mesh.Destination) (*directAddresses, *kernel, *[]mesh.Destination) {
	k := &kernel{captured: map[netip.AddrPort]bool{}}
	asked := new([]mesh.Destination)
	subscribe := func(all ...mesh.Destination) { *asked = append(*asked, all...) }
	return &directAddresses{
		routes: routes.NewStore(nil, func(d mesh.Destination) { subscribe(d) }), subscribe: subscribe, cluster: "east", variables: variables, log: slog.New(slog.DiscardHandler),
		capture: func(to []netip.AddrPort) error {
			k.mu.Lock()
			defer k.mu.Unlock()
			for _, a := range to {
				k.captured[a] = true
			}
			return k.err
		},
		release: func(to []netip.AddrPort) error {
			k.mu.Lock()
			defer k.mu.Unlock()
			for _, a := range to {
				delete(k.captured, a)
			}
			return k.err
		},
		own:  func() []netip.Addr { return []netip.Addr{podOwn.Addr()} },
		said: map[netip.AddrPort]struct{}{}, subscribed: map[mesh.Destination]struct{}{}, given: map[mesh.Destination]struct{}{},
	}, k, asked
}

func ported(d mesh.Destination, port uint16) mesh.Destination { d.Port = port; return d }

// headlessDB are the routes of a headless service, with these pods.
func headlessDB(pods ...netip.AddrPort) []*mesh.Route {
	r := &mesh.Route{Destination: ported(shopDB, 5432), Protocol: mesh.TCP}
	for _, p := range pods {
		r.Local = append(r.Local, mesh.Endpoint{Instance: p.String(), Address: netip.AddrPortFrom(p.Addr(), 15008).String(), Target: p.Port(), Identity: "spiffe://m/x"})
	}
	return []*mesh.Route{{Destination: shopDB, Headless: true, Ports: []mesh.RoutePort{{Number: 5432, Protocol: mesh.TCP}}}, r}
}

func only(all ...netip.AddrPort) map[netip.AddrPort]bool {
	m := map[netip.AddrPort]bool{}
	for _, a := range all {
		m[a] = true
	}
	return m
}

func TestTheAddressesOfAHeadlessServicesPodsAreCapturedBeforeTheirNameIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k, asked := direct(nil)
		done := make(chan bool)
		go func() {
			in, err := d.inMesh(t.Context(), shopDB)
			done <- in || err != nil || !maps.Equal(k.addresses(), only(podDB0, podDB1))
		}()
		synctest.Wait()
		all := headlessDB(podDB0, podDB1, podOwn)
		d.routes.Replace(all[:1], nil)
		synctest.Wait()
		d.routes.Replace(all, nil)
		if <-done {
			t.Errorf("captured: %v", k.addresses())
		}
		if want := []mesh.Destination{shopDB, ported(shopDB, 5432)}; !slices.Equal(slices.Compact(*asked), want) {
			t.Errorf("asked for %v, want %v", *asked, want)
		}
		if other := (mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "web"}}); !d.keeps(shopDB) || d.keeps(other) {
			t.Error("the service does not stay in scope, whose addresses the program has, or others do")
		}
		if to, ok := d.leads(t.Context(), podDB1); !ok || to != (routes.Direct{Destination: ported(shopDB, 5432), Instance: podDB1.String()}) {
			t.Errorf("%v leads to %v, %v", podDB1, to, ok)
		}
		if to, ok := d.leads(t.Context(), shopDBIP); ok {
			t.Errorf("%v leads to %v", shopDBIP, to)
		}
	})
}

func TestWhatIsCapturedFollowsTheRoutesAndIsSaidAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k, _ := direct(nil)
		d.routes.Replace(headlessDB(podDB0), nil)
		go d.run(t.Context())
		synctest.Wait()
		if got := k.addresses(); !maps.Equal(got, only(podDB0)) {
			t.Errorf("at first: %v", got)
		}
		d.routes.Replace(headlessDB(podDB1), nil)
		synctest.Wait()
		if got := k.addresses(); !maps.Equal(got, only(podDB1)) {
			t.Errorf("after a change: %v", got)
		}
		k.forget(nil)
		time.Sleep(sayAgain)
		synctest.Wait()
		if got := k.addresses(); !maps.Equal(got, only(podDB1)) {
			t.Errorf("said again: %v", got)
		}
		k.forget(errors.New("not now"))
		d.routes.Replace(headlessDB(podDB0), nil)
		synctest.Wait()
		k.forget(nil)
		time.Sleep(sayAgain)
		synctest.Wait()
		if got := k.addresses(); !maps.Equal(got, only(podDB0)) {
			t.Errorf("after a fault: %v", got)
		}
	})
}

func TestAClusterIPOfAVariableIsCapturedUntilItIsKnownToBeNoneOfTheMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		variables := clusterIPs([]string{
			"DB_SERVICE_HOST=10.43.0.5", "DB_SERVICE_PORT=5432", "DB_PORT=tcp://10.43.0.5:5432", "DB_PORT_5432_TCP=tcp://10.43.0.5:5432", "DB_PORT_5432_TCP_PORT=5432",
			"KUBERNETES_SERVICE_HOST=10.43.0.1", "KUBERNETES_PORT_443_TCP=tcp://10.43.0.1:443",
			"LEGACY_PORT_80_TCP=tcp://10.43.0.9:80", "DNS_SERVICE_HOST=10.43.0.10", "DNS_PORT_53_UDP=udp://10.43.0.10:53", "PATH=/bin", "BAD_SERVICE_HOST=x", "BAD_PORT_1_TCP=tcp://x:1",
		}, "shop", "east")
		if want := map[netip.AddrPort]mesh.Destination{shopDBIP: shopDB}; !maps.Equal(variables, want) {
			t.Fatalf("variables: %v, want %v", variables, want)
		}
		d, k, asked := direct(variables)
		d.follow(true)
		if got := k.addresses(); !maps.Equal(got, only(shopDBIP)) {
			t.Errorf("captured: %v", got)
		}
		began := time.Now()
		if to, ok := d.leads(t.Context(), shopDBIP); ok || time.Since(began) != directWait {
			t.Errorf("without a gateway: %v, after %v", to, time.Since(began))
		}
		if !slices.Equal(*asked, []mesh.Destination{shopDB}) {
			t.Errorf("asked for %v", *asked)
		}
		meshed := &mesh.Route{Destination: shopDB, Addresses: []netip.Addr{shopDBIP.Addr()}, Ports: []mesh.RoutePort{{Number: 5432}}}
		d.routes.Replace([]*mesh.Route{meshed}, nil)
		d.follow(false)
		if to, ok := d.leads(t.Context(), shopDBIP); !ok || to != (routes.Direct{Destination: ported(shopDB, 5432)}) || !k.addresses()[shopDBIP] {
			t.Errorf("meshed: %v, %v", to, ok)
		}
		for name, rs := range map[string][]*mesh.Route{"plain": {{Destination: shopDB, Outside: true}}, "absent": nil} {
			d.routes.Replace(rs, []mesh.Destination{shopDB})
			d.follow(false)
			if to, ok := d.leads(t.Context(), shopDBIP); ok || k.addresses()[shopDBIP] {
				t.Errorf("%s: %v", name, to)
			}
		}
	})
}

func TestNoMoreAddressesAreCapturedThanThereIsRoomForAndThoseStay(t *testing.T) {
	d, k, _ := direct(nil)
	address := func(n int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 42, byte(n >> 8), byte(n)}), 5432)
	}
	d.routes.Replace(headlessDB(address(1)), nil)
	d.follow(false)
	var many []netip.AddrPort
	for n := range maxDirect + 10 {
		many = append(many, address(n))
	}
	for range 3 {
		d.routes.Replace(headlessDB(many...), nil)
		d.follow(false)
		if got := k.addresses(); len(got) != maxDirect || !got[address(1)] {
			t.Errorf("%d captured, the first %v", len(got), got[address(1)])
		}
	}
	if d.fault == "" {
		t.Error("nobody says so")
	}
}
