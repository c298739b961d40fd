package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// peerOf returns what s shows to others, as by takes it.
func peerOf(t *testing.T, by, s *identity.Source) identity.Peer {
	t.Helper()
	sig, err := s.Sign([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := by.Trust().Verify([]byte("x"), sig)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAClustersCertificateSaysWhatItMayOffer(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	m.Confine("west", "zoo", "shop", "zoo")
	east := m.Gateway("east", "east-1")
	confined, free := peerOf(t, east, m.Gateway("west", "west-1")), peerOf(t, east, m.Workload("east", "shop", "orders"))
	if want := []string{"shop", "zoo"}; !slices.Equal(confined.Namespaces, want) || free.Namespaces != nil {
		t.Errorf("west names %v, want %v; east names %v, want none", confined.Namespaces, want, free.Namespaces)
	}
	if !confined.MayOffer("shop") || confined.MayOffer("pay") || !free.MayOffer("pay") {
		t.Error("a cluster may offer what its certificate names, or anything when it names nothing")
	}
	// A workload outside of them has its identity all the same, to call others.
	if p := peerOf(t, east, m.Workload("west", "pay", "card")); p.MayOffer("pay") || p.Namespace != "pay" {
		t.Errorf("%+v", p)
	}
}

func TestNamespacesOutliveARenewalUnlessTheyAreChanged(t *testing.T) {
	root := newRoot(t)
	first, err := root.NewCluster("east", []string{"shop"}, identity.DefaultClusterTTL)
	if err != nil {
		t.Fatal(err)
	}
	for _, namespaces := range [][]string{first.Namespaces(), {"zoo"}, nil} {
		again, err := root.RenewCluster(first, namespaces, identity.DefaultClusterTTL)
		if err != nil || !slices.Equal(again.Namespaces(), namespaces) {
			t.Fatalf("%v, %v; want %v", again, err, namespaces)
		}
		dir := t.TempDir()
		if err := again.Save(dir, true); err != nil {
			t.Fatal(err)
		}
		if read, err := identity.OpenCluster(dir, "east"); err != nil || !slices.Equal(read.Namespaces(), namespaces) {
			t.Fatalf("read again: %v, %v; want %v", read, err, namespaces)
		}
		if sourceOf(t, again).Self().Founding != sourceOf(t, first).Self().Founding {
			t.Error("another founding")
		}
	}
	_, err = root.NewCluster("east", []string{"Shop"}, identity.DefaultClusterTTL)
	wantError(t, "a bad name", err, `namespace "Shop"`)
	many := make([]string, 400)
	for i := range many {
		many[i] = fmt.Sprintf("%s-%d", strings.Repeat("n", 50), i)
	}
	_, err = root.NewCluster("east", many, identity.DefaultClusterTTL)
	wantError(t, "a certificate that nobody would take", err, "name fewer")
}

// Whoever is on the way may send any certificates along: those count that the chain
// is made of.
func TestACertificateThatIsOnlySentAlongGivesNoNamespaces(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	m.Confine("west", "zoo")
	free, err := m.Root.NewCluster("west", nil, identitytest.TTL)
	if err != nil {
		t.Fatal(err)
	}
	parse := func(s *identity.Source) (certs []*x509.Certificate) {
		sig, err := s.Sign(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, der := range sig.Chain {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			certs = append(certs, c)
		}
		return certs
	}
	own, other := parse(m.Gateway("west", "west-1")), parse(sourceOfCluster(t, free, "west"))
	p, err := m.Gateway("east", "east-1").Trust().Peer(tls.ConnectionState{PeerCertificates: []*x509.Certificate{own[0], other[1], own[1]}})
	if err != nil || p.MayOffer("shop") {
		t.Errorf("%+v, %v", p, err)
	}
}

func sourceOfCluster(t *testing.T, ca *identity.Authority, cluster mesh.ClusterName) *identity.Source {
	t.Helper()
	c, err := ca.Issue(identity.Request{ID: identity.ID{Cluster: cluster, Gateway: "g"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Source()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryCAOfAChainConfines(t *testing.T) {
	root := newForger(t)
	const east = "spiffe://mesh.example/cluster/east"
	f := root.under(east, east+"/ns/shop", east+"/ns/zoo").under(east, east+"/ns/zoo", east+"/ns/pay")
	s, err := f.open(f.leaf(east1, nil))
	if err != nil {
		t.Fatal(err)
	}
	if p := peerOf(t, s, s); p.MayOffer("shop") || !p.MayOffer("zoo") || p.MayOffer("pay") {
		t.Errorf("%+v", p)
	}
	f = root.under(east, east+"/ns/shop").under(east, east+"/ns/zoo")
	if s, err = f.open(f.leaf(east1, nil)); err != nil {
		t.Fatal(err)
	}
	p := peerOf(t, s, s)
	if p.MayOffer("shop") || p.MayOffer("zoo") {
		t.Errorf("%+v", p)
	}
	wantError(t, "nothing in common", p.CheckAnswer("shop"), "names none in common")
}

func TestOnlyWhoMayAnswersForADestination(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	m.Confine("evil", "lair")
	orders := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}
	pinned := orders
	pinned.Cluster = "west"
	self := m.Workload("east", "shop", "cart")
	for _, tc := range []struct {
		name string
		dest mesh.Destination
		who  *identity.Source
		want string
	}{
		{"a workload of the namespace", orders, m.Workload("west", "shop", "orders"), ""},
		{"a gateway, for plain endpoints", orders, m.Gateway("west", "west-1"), ""},
		{"in the cluster that is named", pinned, m.Workload("west", "shop", "orders"), ""},
		{"a workload of another namespace", orders, m.Workload("west", "zoo", "orders"), "is no workload of namespace shop"},
		{"in another cluster than is named", pinned, m.Workload("east", "shop", "orders"), "expected somebody of cluster west"},
		{"a gateway of a cluster that may not", orders, m.Gateway("evil", "evil-1"), "cluster evil may not offer namespace shop: its certificate names lair"},
		{"a workload that such a cluster made up", orders, m.Workload("evil", "shop", "orders"), "cluster evil may not offer namespace shop"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := peerOf(t, self, tc.who)
			// The gateway in between lists whom it likes.
			wantError(t, "listed", identity.Answers(tc.dest, []string{p.ID.String()})(p), tc.want)
			if identity.Answers(tc.dest, nil)(p) == nil {
				t.Error("answers without being listed")
			}
		})
	}
}

func FuzzAuthorityNames(f *testing.F) {
	for _, s := range append(badIDs, "spiffe://m", "spiffe://m/cluster/e", "spiffe://m/cluster/e/ns/n") {
		f.Add(s, "spiffe://m/cluster/e")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		scope, err := identity.ScopeOf(a, b)
		if err != nil {
			return
		}
		if again, err := identity.ScopeOf(b, a); err != nil || !slices.Equal(again, scope) {
			t.Errorf("%q and %q: %v in one order, %v (%v) in the other", a, b, scope, again, err)
		}
	})
}
