package federation

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// idle returns a federation of east/east-1 that does not run.
func idle(t *testing.T, m *identitytest.Mesh) *Federation {
	t.Helper()
	self := mesh.GatewayID{Cluster: "east", Name: "east-1"}
	id := m.Gateway("east", "east-1")
	e, err := tunnel.New(tunnel.Config{Self: self, Identity: id, Listen: tunnel.ListenUDP("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	f, err := New(Config{Self: self, Identity: id, Tunnel: e, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var west1 = mesh.GatewayID{Cluster: "west", Name: "west-1"}

func stateOf(t *testing.T, origin mesh.GatewayID, epoch uint64, sets ...[]mesh.Export) *catalog.State {
	t.Helper()
	s := catalog.New(origin, epoch)
	for _, es := range sets {
		var err error
		if s, err = s.Next(es); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func signed(t *testing.T, by *identity.Source, d *catalog.Delta) *signedDelta {
	t.Helper()
	sig, err := by.Sign(d.Head.SignedBytes())
	if err != nil {
		t.Fatal(err)
	}
	return &signedDelta{d, sig}
}

// hear has f hear of an origin, as on a list of versions.
func hear(f *Federation, origin mesh.GatewayID) {
	f.core.apply(core.Synced{Origins: []catalog.Head{{Origin: origin, Version: catalog.Version{Epoch: 1, Seq: 1}}}})
}

// leaves has a gateway connect to f and leave.
func leaves(f *Federation, id mesh.GatewayID) {
	f.core.apply(core.Tunnels{{Gateway: id, Tunnel: core.Tunnel{Up: true, Since: time.Now()}}})
	f.core.apply(core.Tunnels{{Gateway: id, Left: true, Tunnel: core.Tunnel{Since: time.Now()}}})
	f.core.unlocked.Step(time.Now())
}

// takes has f verify and accept a delta, as when it has pulled it.
func takes(f *Federation, id mesh.GatewayID, d *signedDelta) error {
	signer, err := f.verifier.verifyHead(id, d.Delta.Head, d.Signature)
	if err != nil {
		return err
	}
	return f.accept(signer, d)
}

func holds(f *Federation, id mesh.GatewayID) *catalog.State {
	s, _ := f.held(id)
	return s
}

func TestOnlyTheOriginsOwnCatalogIsAccepted(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	elsewhere := identitytest.New(t, "mesh.example")
	west := m.Gateway("west", "west-1")
	orders := []mesh.Export{serving("west", "shop/orders", 2)}
	good := stateOf(t, west1, 7, orders)
	tampered := signed(t, west, good.Whole())
	tampered.Delta.Records[0].Raw = json.RawMessage(strings.Replace(string(tampered.Delta.Records[0].Raw), `"ready":2`, `"ready":9`, 1))
	later := signed(t, west, good.Whole())
	d := *later.Delta
	d.Head.Version.Seq = 9
	later.Delta = &d
	for name, test := range map[string]struct {
		d    *signedDelta
		want string // of the error; empty: accepted
	}{
		"signed by the origin":                {signed(t, west, good.Whole()), ""},
		"signed by a gateway of another":      {signed(t, m.Gateway("north", "north-1"), good.Whole()), "may not speak for west/west-1"},
		"signed by another of its cluster":    {signed(t, m.Gateway("west", "west-2"), good.Whole()), "may not speak for west/west-1"},
		"signed by a workload of its cluster": {signed(t, m.Workload("west", "shop", "west-1"), good.Whole()), "may not speak for west/west-1"},
		"signed under another root":           {signed(t, elsewhere.Gateway("west", "west-1"), good.Whole()), "signature"},
		"not signed":                          {&signedDelta{Delta: good.Whole()}, "signature"},
		"with a changed record":               {tampered, "digest"},
		"with a changed version":              {later, "signature"},
		"of another origin":                   {signed(t, m.Gateway("west", "west-2"), stateOf(t, mesh.GatewayID{Cluster: "west", Name: "west-2"}, 7, orders).Whole()), "asked for west/west-1"},
		"that says nothing yet":               {signed(t, west, catalog.New(west1, 8).Whole()), "asked for west/west-1"},
	} {
		t.Run(name, func(t *testing.T) {
			f := idle(t, m)
			hear(f, west1)
			err := takes(f, west1, test.d)
			held := holds(f, west1) != nil
			if test.want == "" {
				if err != nil || !held {
					t.Errorf("held %v, error %v", held, err)
				}
				return
			}
			if held || !errors.Is(err, errRejected) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("held %v, error %v, want one that says %q", held, err, test.want)
			}
		})
	}
}

// A gateway says what it likes of any service: what counts is what its cluster's
// certificate, and the namespaces of who would answer, allow.
func TestWhatAClusterMayNotOfferIsLeftOutAndTheRestCounts(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	m.Confine("west", "shop", "zoo")
	west := m.Gateway("west", "west-1")
	answeredBy := func(service string, ids ...string) mesh.Export {
		e := serving("west", service, 2)
		e.Ports[0].Identities = ids
		return e
	}
	const td = "spiffe://mesh.example/cluster/"
	f := idle(t, m)
	hear(f, west1)
	err := takes(f, west1, signed(t, west, stateOf(t, west1, 7, []mesh.Export{
		serving("west", "shop/orders", 2),
		answeredBy("shop/plain", td+"west/gateway/west-1", td+"west/gateway/west-2"),
		serving("west", "pay/card", 2),                                     // a namespace of others
		serving("north", "zoo/foreign", 2),                                 // answered by another cluster
		answeredBy("zoo/theft", td+"west/ns/shop/sa/theft"),                // by a workload of another namespace
		answeredBy("zoo/none", "zoo"),                                      // by nobody
		answeredBy("zoo/far", "spiffe://other/cluster/west/ns/zoo/sa/far"), // of another trust domain
	}).Whole()))
	if err != nil {
		t.Fatal(err)
	}
	f.step(t.Context())
	v, _ := f.View()
	if got := fmt.Sprint(v.Services()); got != "[shop/orders shop/plain]" {
		t.Errorf("west offers %s", got)
	}
	for _, s := range v.Services() {
		if p := v.Exports(s)[0].Export.Ports[0]; p.Plain != (s.Name == "plain") {
			t.Errorf("%s is plain: %v", s, p.Plain)
		}
	}
	o := originOf(v, west1)
	var why []string
	for _, l := range o.LeftOut {
		why = append(why, l.Service.String()+" "+l.Why)
	}
	for i, want := range []string{"pay/card cluster west may not offer namespace pay: its certificate names shop, zoo",
		"zoo/far identity", "zoo/foreign identity", "zoo/none SPIFFE ID", "zoo/theft spiffe://mesh.example/cluster/west/ns/shop/sa/theft is no workload of namespace zoo"} {
		if len(why) != 5 || !strings.HasPrefix(why[i], want) {
			t.Fatalf("left out %q, %d in all; want %s", why, o.LeftOutTotal, want)
		}
	}
	// Whoever holds it hands it on whole: others judge for themselves.
	if s := holds(f, west1); s.Len() != 7 {
		t.Errorf("holds %d records", s.Len())
	}
	// And after a restart.
	path := filepath.Join(t.TempDir(), "state")
	f.memory.store = open(t, path)
	if err := f.memory.save(); err != nil {
		t.Fatal(err)
	}
	if err := f.memory.store.Close(); err != nil {
		t.Fatal(err)
	}
	again := idle(t, m)
	again.memory.path = path
	if err := again.memory.open(); err != nil {
		t.Fatal(err)
	}
	defer again.memory.store.Close()
	v, _ = again.View()
	if got := fmt.Sprint(v.Services()); got != "[shop/orders shop/plain]" || originOf(v, west1).LeftOutTotal != 5 {
		t.Errorf("after a restart west offers %s", got)
	}
}

func TestImportsNarrowWhatIsTaken(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	f := idle(t, m)
	hear(f, west1)
	err := takes(f, west1, signed(t, m.Gateway("west", "west-1"), stateOf(t, west1, 7, []mesh.Export{
		serving("west", "shop/cart", 1), serving("west", "shop/orders", 1), serving("west", "zoo/lion", 1)}).Whole()))
	if err != nil {
		t.Fatal(err)
	}
	all := mesh.Imports(nil)
	for _, tc := range []struct {
		imports mesh.Imports
		want    string
	}{
		{all, "[shop/cart shop/orders zoo/lion]"},
		{mesh.Imports{"west": {{Namespace: "shop"}}}, "[shop/cart shop/orders]"},
		{mesh.Imports{"west": {{Namespace: "shop", Name: "cart"}, {Namespace: "zoo"}}}, "[shop/cart zoo/lion]"},
		{mesh.Imports{"west": {}}, "[]"},
		{mesh.Imports{"north": {}}, "[shop/cart shop/orders zoo/lion]"},
		{mesh.Imports{"*": {}}, "[]"},
		{mesh.Imports{"*": {}, "west": {{Namespace: "zoo"}}}, "[zoo/lion]"},
		{all, "[shop/cart shop/orders zoo/lion]"},
	} {
		f.SetImports(tc.imports)
		f.step(t.Context())
		v, _ := f.View()
		if got := fmt.Sprint(v.Services()); got != tc.want || len(v.Services())+originOf(v, west1).NotImported != 3 {
			t.Errorf("with %v takes %s and leaves out %d; want %s", tc.imports, got, originOf(v, west1).NotImported, tc.want)
		}
	}
}

func TestAnOlderCatalogNeverComesBack(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	west := m.Gateway("west", "west-1")
	old := stateOf(t, west1, 7, []mesh.Export{serving("west", "shop/orders", 2)})
	now := stateOf(t, west1, 8, []mesh.Export{serving("west", "shop/cart", 2)})
	f := idle(t, m)
	hear(f, west1)
	for _, s := range []*catalog.State{now, old} {
		if err := takes(f, west1, signed(t, west, s.Whole())); err != nil {
			t.Fatal(err)
		}
	}
	if s := holds(f, west1); s.Head() != now.Head() {
		t.Errorf("holds %v, want %v", s.Head(), now.Head())
	}
	leaves(f, west1)
	for _, s := range []*catalog.State{old, now} {
		if err := takes(f, west1, signed(t, west, s.Whole())); err != nil {
			t.Fatal(err)
		}
		if holds(f, west1) != nil {
			t.Errorf("%v was forgotten and came back", s.Head().Version)
		}
	}
	again := stateOf(t, west1, 9, []mesh.Export{serving("west", "shop/cart", 2)})
	if err := takes(f, west1, signed(t, west, again.Whole())); err != nil || holds(f, west1) == nil {
		t.Errorf("a new epoch after leaving: %v", err)
	}
}

func TestTwoCatalogsUnderOneVersionSettleAlike(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	west := m.Gateway("west", "west-1")
	a := stateOf(t, west1, 7, []mesh.Export{serving("west", "shop/orders", 2)})
	b := stateOf(t, west1, 7, []mesh.Export{serving("west", "shop/cart", 2)})
	want := catalog.Prefer(a, b).Head()
	for _, order := range [][]*catalog.State{{a, b}, {b, a}} {
		f := idle(t, m)
		hear(f, west1)
		for _, s := range order {
			if err := takes(f, west1, signed(t, west, s.Whole())); err != nil {
				t.Fatal(err)
			}
		}
		if got := holds(f, west1).Head(); got != want {
			t.Errorf("holds %v, want %v", got, want)
		}
	}
}

// TestAForgedCatalogIsRefusedOnTheWay runs a gateway of west that also says what
// north offers, and changes what it hands on.
func TestAForgedCatalogIsRefusedOnTheWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	north1 := mesh.GatewayID{Cluster: "north", Name: "north-1"}
	liar := w.mesh.Gateway("west", "west-1")
	forged := signed(t, liar, stateOf(t, north1, uint64(time.Now().Add(time.Hour).UnixMilli()), []mesh.Export{serving("north", "shop/orders", 2)}).Whole())
	asked := make(chan struct{}, 100)
	east := w.start(plan{name: "east/east-1"})
	west := w.start(plan{name: "west/west-1", join: []string{east.addr}, identity: liar, wrap: func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == pathCatalog && !r.URL.Query().Has("origin"):
				_ = send(rw, mustCompress(t, versionList{Origins: []catalog.Head{forged.Delta.Head}}.write))
			case r.URL.Path == pathCatalog && r.URL.Query().Get("origin") == north1.String():
				_ = send(rw, mustCompress(t, forged.write))
				asked <- struct{}{}
			default:
				h.ServeHTTP(rw, r)
			}
		})
	}})
	west.Own().Publish([]mesh.Export{serving("west", "shop/cart", 1)})
	east.await("what west may say", soon, offers("shop/cart", "west"))
	for range 2 { // it was looked at, and again after that was over
		select {
		case <-asked:
		case <-time.After(soon):
			t.Fatal("east did not look")
		}
	}
	if v, _ := east.View(); originOf(v, north1) != nil || len(v.Exports(mesh.ServiceName{Namespace: "shop", Name: "orders"})) != 0 {
		t.Errorf("east believes west about north:\n%s", show(v))
	}
}
