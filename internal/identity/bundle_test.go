package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// signed makes a bundle of mesh.example.
func signed(t *testing.T, b identity.Bundle, by ...*identity.Authority) *identity.Bundle {
	t.Helper()
	if b.TrustDomain == "" {
		b.TrustDomain = "mesh.example"
	}
	s, err := b.Sign(by...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func certs(of ...*identity.Authority) (all []*x509.Certificate) {
	for _, a := range of {
		all = append(all, a.Certificate())
	}
	return all
}

func accept(t *testing.T, s *identity.Source, b *identity.Bundle) {
	t.Helper()
	if changed, err := s.Trust().Accept(b.Bytes()); err != nil || !changed {
		t.Fatalf("bundle %d: changed %t, %v", b.Number, changed, err)
	}
}

// shake makes a connection from client to server, and returns what each of them says.
func shake(t *testing.T, client, server *identity.Source) (fromClient, fromServer tls.ConnectionState, err error) {
	t.Helper()
	fromClient, fromServer, err, other := handshake(t, client.ClientTLS("", identity.AnyMember()), server.ServerTLS(identity.AnyMember()))
	return fromClient, fromServer, errors.Join(err, other)
}

func rootOf(t *testing.T, td string) *identity.Authority {
	t.Helper()
	r, err := identity.NewRoot(td, identitytest.TTL)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// under returns a mesh of the same trust domain under another root.
func gatewayUnder(t *testing.T, root *identity.Authority, cluster mesh.ClusterName, name mesh.GatewayName) *identity.Source {
	t.Helper()
	ca, err := root.NewCluster(cluster, nil, identitytest.TTL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.Issue(identity.Request{ID: identity.ID{Gateway: name}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Source()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestARootIsReplacedWithoutABreak(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	next := rootOf(t, "mesh.example")
	a, b := m.Gateway("east", "east-1"), m.Gateway("west", "west-1")
	renewed := gatewayUnder(t, next, "west", "west-1")
	if _, _, err := shake(t, a, renewed); err == nil {
		t.Fatal("a root that nobody has said is trusted")
	}
	both := signed(t, identity.Bundle{Number: 1, Roots: certs(m.Root, next)}, m.Root)
	accept(t, a, both)
	accept(t, b, both)
	// renewed trusts what it was issued with; old ones come to it through the bundle, which
	// the next root has not signed.
	if _, err := renewed.Trust().Accept(both.Bytes()); !errors.Is(err, identity.ErrUntrusted) {
		t.Fatalf("a bundle of a root that is not trusted: %v", err)
	}
	both = signed(t, identity.Bundle{Number: 2, Roots: certs(m.Root, next)}, m.Root, next)
	for _, s := range []*identity.Source{a, b, renewed} {
		accept(t, s, both)
	}
	open, _, err := shake(t, a, b)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := shake(t, a, renewed); err != nil {
		t.Fatalf("with both roots: %v", err)
	}
	past := a.Trust().Past()
	alone := signed(t, identity.Bundle{Number: 3, Roots: certs(next), Retired: certs(m.Root)}, next)
	for _, s := range []*identity.Source{a, b, renewed} {
		accept(t, s, alone)
	}
	select {
	case <-past:
	default:
		t.Error("nobody was told that what is trusted has changed")
	}
	if err := a.Trust().Trusts(open, identity.AnyMember()); err != nil {
		t.Errorf("a connection that was open when its root retired: %v", err)
	}
	if _, _, err := shake(t, renewed, b); err == nil {
		t.Error("a new connection under a retired root")
	}
	late := signed(t, identity.Bundle{Number: 4, Roots: certs(m.Root, next)}, m.Root)
	if _, err := a.Trust().Accept(late.Bytes()); !errors.Is(err, identity.ErrUntrusted) {
		t.Errorf("a retired root signed a bundle: %v", err)
	}
	gone := signed(t, identity.Bundle{Number: 4, Roots: certs(next), Retired: certs(m.Root), Revoked: []identity.Revocation{
		{What: identity.FingerprintOf(m.Root.Certificate()).String()}}}, next)
	accept(t, a, gone)
	if err := a.Trust().Trusts(open, identity.AnyMember()); err == nil {
		t.Error("a connection outlives the revocation of its root")
	}
}

func TestWhatIsRevokedIsTrustedNoMoreAndTheRestIs(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	west := m.Gateway("west", "west-1")
	west2 := m.Gateway("west", "west-2")
	orders := m.Workload("west", "shop", "orders")
	gone := map[string][]*identity.Source{
		west.ID().String():                   {west},
		"spiffe://mesh.example/cluster/west": {west, west2, orders},
		identity.FingerprintOf(m.Cluster("west").Certificate()).String(): {west, west2, orders},
		orders.ID().String(): {orders},
	}
	for what, who := range gone {
		east := m.Gateway("east", "east-1")
		proofs := map[*identity.Source]tls.ConnectionState{}
		for _, s := range []*identity.Source{west, west2, orders} {
			open, _, err := shake(t, east, s)
			if err != nil {
				t.Fatal(err)
			}
			proofs[s] = open
		}
		accept(t, east, signed(t, identity.Bundle{Number: 7, Roots: certs(m.Root), Revoked: []identity.Revocation{{What: what}}}, m.Root))
		for s, open := range proofs {
			revoked := false
			for _, w := range who {
				revoked = revoked || w == s
			}
			for how, err := range map[string]error{"open": east.Trust().Trusts(open, identity.AnyMember()), "renewed": east.Trust().TrustsRenewed(open, identity.AnyMember())} {
				if errors.As(err, new(*identity.RevokedError)) != revoked || !revoked && err != nil {
					t.Errorf("%s, %s, after %s was revoked: %v", s.ID(), how, what, err)
				}
			}
			sig, err := s.Sign([]byte("head"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := east.Trust().Verify([]byte("head"), sig); (err != nil) != revoked {
				t.Errorf("a signature of %s after %s was revoked: %v", s.ID(), what, err)
			}
			if _, _, err := shake(t, s, east); (err != nil) != revoked {
				t.Errorf("a handshake of %s after %s was revoked: %v", s.ID(), what, err)
			}
		}
	}
}

func TestAProcessThatIsRevokedSaysSo(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	s := m.Gateway("west", "west-1")
	accept(t, s, signed(t, identity.Bundle{Number: 1, Roots: certs(m.Root), Revoked: []identity.Revocation{{What: "spiffe://mesh.example/cluster/west"}}}, m.Root))
	wantError(t, "its state", s.Err(), "this identity was revoked (bundle 1): spiffe://mesh.example/cluster/west/gateway/west-1 is revoked, by the entry spiffe://mesh.example/cluster/west ")
	_, _, err := shake(t, s, m.Gateway("east", "east-1"))
	wantError(t, "its dial", err, "is revoked")
	accept(t, s, signed(t, identity.Bundle{Number: 2, Roots: certs(m.Root)}, m.Root))
	wantError(t, "its state after the entry was lifted", s.Err(), "")
}

func TestWhoWasLetInAgainIsServedWhereItHearsOfThat(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	s, gateway := m.Gateway("west", "west-1"), m.Gateway("east", "east-1")
	revoked := signed(t, identity.Bundle{Number: 1, Roots: certs(m.Root), Revoked: []identity.Revocation{{What: s.ID().String()}}}, m.Root)
	accept(t, s, revoked)
	accept(t, gateway, revoked)
	hear := func() (fromClient, fromGateway error) {
		_, _, fromClient, fromGateway = handshake(t, s.HearingTLS("", identity.AnyMember()), gateway.ServerTLS(identity.AnyMember()))
		return fromClient, fromGateway
	}
	_, refused := hear()
	wantError(t, "the gateway, while it is revoked", refused, "is revoked")
	accept(t, gateway, signed(t, identity.Bundle{Number: 2, Roots: certs(m.Root)}, m.Root))
	if err, refused := hear(); err != nil || refused != nil {
		t.Errorf("after the entry was lifted, of which only the gateway knows: %v, %v", err, refused)
	}
}

func TestAProcessOfARevokedClusterHearsOfItsGatewayThatItIsInAgain(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	s, gateway, stolen := m.Workload("west", "shop", "orders"), m.Gateway("west", "west-1"), m.Gateway("west", "west-2")
	const cluster = "spiffe://mesh.example/cluster/west"
	out := signed(t, identity.Bundle{Number: 1, Roots: certs(m.Root), Revoked: []identity.Revocation{{What: cluster}, {What: stolen.ID().String()}}}, m.Root)
	accept(t, s, out)
	in := signed(t, identity.Bundle{Number: 2, Roots: certs(m.Root), Revoked: []identity.Revocation{{What: stolen.ID().String()}}}, m.Root)
	accept(t, gateway, in)
	hear := func(from *identity.Source) (fromClient, fromGateway error) {
		_, _, fromClient, fromGateway = handshake(t, s.HearingTLS("", identity.GatewayOf("west")), from.ServerTLS(identity.AnyMember()))
		return fromClient, fromGateway
	}
	if err, refused := hear(gateway); err != nil || refused != nil {
		t.Errorf("its gateway, which knows that the cluster is in again: %v, %v", err, refused)
	}
	if _, _, err := shake(t, s, gateway); err == nil {
		t.Error("it made another connection than that on which it hears")
	}
	err, _ := hear(stolen)
	wantError(t, "a gateway that is revoked itself", err, "is revoked, by the entry "+stolen.ID().String())
	accept(t, s, in)
	wantError(t, "its state", s.Err(), "")
}

func TestAProcessOfARevokedClusterTakesACertificateOfAnotherKeyAndNobodyElseDoes(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	old := m.Workload("west", "shop", "orders")
	key := identity.FingerprintOf(m.Cluster("west").Certificate()).String()
	accept(t, old, signed(t, identity.Bundle{Number: 1, Roots: certs(m.Root), Revoked: []identity.Revocation{{What: "spiffe://mesh.example/cluster/west"}, {What: key}}}, m.Root))
	request := identity.Request{ID: identity.ID{Namespace: "shop", ServiceAccount: "orders"}}
	same, err := m.Cluster("west").Issue(request)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "a certificate of the revoked key", old.Replace(same.Material()), key)
	another, err := m.Root.NewCluster("west", nil, identitytest.TTL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := another.Issue(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Replace(c.Material()); err != nil {
		t.Fatalf("a certificate of another key: %v", err)
	}
	wantError(t, "its state, until it hears that the cluster is in again", old.Err(), "this identity was revoked (bundle 1)")
}

func TestTheHighestBundleWinsInWhateverOrderTheyCome(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	var all []*identity.Bundle
	for _, what := range []string{"", m.Gateway("west", "west-1").ID().String(), m.Gateway("west", "west-2").ID().String()} {
		b := identity.Bundle{Number: 2, Roots: certs(m.Root)}
		if what != "" {
			b.Revoked = []identity.Revocation{{What: what}}
		}
		all = append(all, signed(t, b, m.Root))
	}
	all = append(all, signed(t, identity.Bundle{Number: 1, Roots: certs(m.Root)}, m.Root))
	forwards, backwards := m.Gateway("east", "east-1"), m.Gateway("east", "east-1")
	for i := range all {
		for s, b := range map[*identity.Source]*identity.Bundle{forwards: all[i], backwards: all[len(all)-1-i]} {
			if _, err := s.Trust().Accept(b.Bytes()); err != nil {
				t.Fatal(err)
			}
		}
	}
	a, b := forwards.Trust().Bundles()[0], backwards.Trust().Bundles()[0]
	if a.Number != 2 || string(a.Bytes()) != string(b.Bytes()) {
		t.Errorf("one holds %d %s, the other %d %s", a.Number, a.Bytes(), b.Number, b.Bytes())
	}
}

func TestBundlesInForceOutliveARestart(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	next := rootOf(t, "mesh.example")
	file := filepath.Join(t.TempDir(), "bundles.json")
	s := m.Gateway("east", "east-1")
	s.Trust().KeepBundles(file)
	accept(t, s, signed(t, identity.Bundle{Number: 1, Roots: certs(m.Root, next)}, m.Root))
	accept(t, s, signed(t, identity.Bundle{Number: 2, Roots: certs(next), Retired: certs(m.Root)}, next))
	if err := s.Trust().KeptErr(); err != nil {
		t.Fatal(err)
	}
	again := m.Gateway("east", "east-1") // its roots.pem is still the old one
	again.Trust().KeepBundles(file)
	if b := again.Trust().Bundles(); len(b) != 1 || b[0].Number != 2 {
		t.Errorf("after a restart: %v", b)
	}
	other := identitytest.New(t, "mesh.example").Gateway("east", "east-1")
	other.Trust().KeepBundles(file)
	if b := other.Trust().Bundles(); len(b) != 0 {
		t.Error("a mesh that was made anew under the old name trusts the old one's roots")
	}
	if err := os.WriteFile(file, []byte(`[{"bundle":`), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Gateway("east", "east-1").Trust().KeepBundles(file) // is logged
}

func TestBundlesThatCouldNotBeKeptAreWrittenLater(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	dir := filepath.Join(t.TempDir(), "state")
	s := m.Gateway("east", "east-1")
	s.Trust().KeepBundles(filepath.Join(dir, "bundles.json"))
	accept(t, s, signed(t, identity.Bundle{Number: 1, Roots: certs(m.Root)}, m.Root))
	if s.Trust().KeptErr() == nil {
		t.Fatal("it is kept in a directory that is not there")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil { // writes once more
		t.Fatal(err)
	}
	if err := s.Trust().KeptErr(); err != nil {
		t.Errorf("not written again: %v", err)
	}
	again := m.Gateway("east", "east-1")
	again.Trust().KeepBundles(filepath.Join(dir, "bundles.json"))
	if b := again.Trust().Bundles(); len(b) != 1 || b[0].Number != 1 {
		t.Errorf("after a restart: %v", b)
	}
}

func TestAForeignTrustDomainSpeaksForItsOwnClustersOnly(t *testing.T) {
	m, other := identitytest.New(t, "mesh.example"), identitytest.New(t, "other.example")
	for how, d := range map[string]identity.Domain{
		"by its roots":     {Name: "other.example", Roots: certs(other.Root), Clusters: []mesh.ClusterName{"paris"}},
		"by a fingerprint": {Name: "other.example", Pins: []identity.Fingerprint{identity.FingerprintOf(other.Root.Certificate())}, Clusters: []mesh.ClusterName{"paris"}},
	} {
		t.Run(how, func(t *testing.T) {
			east := m.Gateway("east", "east-1")
			paris := other.Gateway("paris", "paris-1")
			if err := paris.Trust().TrustDomains([]identity.Domain{{Name: "mesh.example", Roots: certs(m.Root), Clusters: []mesh.ClusterName{"east"}}}); err != nil {
				t.Fatal(err)
			}
			_, _, err := shake(t, east, paris)
			wantError(t, "before it is configured", err, "trust domain other.example, expected mesh.example")
			if err := east.Trust().TrustDomains([]identity.Domain{d}); err != nil {
				t.Fatal(err)
			}
			if _, _, err := shake(t, east, paris); err != nil {
				t.Errorf("as client: %v", err)
			}
			if _, _, err := shake(t, paris, east); err != nil {
				t.Errorf("as server: %v", err)
			}
			posing := other.Gateway("east", "east-1")
			_, _, err = shake(t, east, posing)
			wantError(t, "a cluster that is ours", err, "cluster east is of trust domain mesh.example here")
			_, _, err = shake(t, east, m.Gateway("paris", "paris-2"))
			wantError(t, "a cluster that is theirs", err, "cluster paris is of trust domain other.example here")
			_, _, err = shake(t, east, identitytest.New(t, "other.example").Gateway("paris", "paris-1"))
			wantError(t, "another root of that name", err, "not signed by a root of trust domain other.example")

			// It follows the other's rotation, and revocations by either.
			next := rootOf(t, "other.example")
			b := signed(t, identity.Bundle{TrustDomain: "other.example", Number: 3, Roots: certs(next), Retired: certs(other.Root)}, other.Root, next)
			accept(t, east, b)
			if _, _, err := shake(t, east, paris); err == nil {
				t.Error("their retired root")
			}
			successor := gatewayUnder(t, next, "paris", "paris-1")
			if err := successor.Trust().TrustDomains([]identity.Domain{{Name: "mesh.example", Roots: certs(m.Root), Clusters: []mesh.ClusterName{"east"}}}); err != nil {
				t.Fatal(err)
			}
			if _, _, err := shake(t, east, successor); err != nil {
				t.Errorf("their new root: %v", err)
			}
			accept(t, east, signed(t, identity.Bundle{Number: 1, Roots: certs(m.Root), Revoked: []identity.Revocation{{What: "spiffe://other.example/cluster/paris"}}}, m.Root))
			_, _, err = shake(t, east, successor)
			wantError(t, "revoked by us", err, "is revoked")
		})
	}
}

func TestAClusterIsOfOneTrustDomain(t *testing.T) {
	m, other := identitytest.New(t, "mesh.example"), identitytest.New(t, "other.example")
	east := m.Gateway("east", "east-1")
	roots := certs(other.Root)
	for want, d := range map[string]identity.Domain{
		"cluster east is said to be of trust domain mesh.example and of other.example": {Name: "other.example", Roots: roots, Clusters: []mesh.ClusterName{"east"}},
		"name its clusters":          {Name: "other.example", Roots: roots},
		"name a file with its roots": {Name: "other.example", Clusters: []mesh.ClusterName{"paris"}},
		"is this process's own":      {Name: "mesh.example", Roots: roots, Clusters: []mesh.ClusterName{"paris"}},
	} {
		wantError(t, want, east.Trust().TrustDomains([]identity.Domain{d}), want)
	}
}

func FuzzABundleFromAnybodyIsReadOrRefused(f *testing.F) {
	root, err := identity.NewRoot("mesh.example", identitytest.TTL)
	if err != nil {
		f.Fatal(err)
	}
	b, err := identity.Bundle{TrustDomain: "mesh.example", Number: 1, Roots: certs(root), Retired: certs(root), Revoked: []identity.Revocation{
		{What: "spiffe://mesh.example/cluster/west"}, {What: identity.FingerprintOf(root.Certificate()).String()}}}.Sign(root)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"bundle":"e30=","signatures":[{"key":"","sig":""}]}`))
	ca, err := root.NewCluster("east", nil, identitytest.TTL)
	if err != nil {
		f.Fatal(err)
	}
	c, err := ca.Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := identity.ParseBundle(raw)
		if err != nil {
			return
		}
		if len(b.Roots) == 0 || len(b.Revoked) > identity.MaxRevoked {
			t.Errorf("%d roots, %d revoked", len(b.Roots), len(b.Revoked))
		}
		s, err := c.Source()
		if err != nil {
			t.Fatal(err)
		}
		if changed, err := s.Trust().Accept(raw); changed && err == nil && b.TrustDomain != "mesh.example" {
			t.Error("a bundle of another trust domain")
		}
	})
}

func TestTheNumberOfTheBundleInForceIsAMetricAndWhoWatchesIsToldOfEachOnce(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	s := m.Gateway("east", "east-1")
	reg := prometheus.NewRegistry()
	if err := s.Register(reg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan uint64), make(chan struct{})
	go func() {
		defer close(ended)
		s.Trust().WatchBundles(ctx, func(b *identity.Bundle) { told <- b.Number })
	}()
	for number := range uint64(3) {
		if number > 0 {
			accept(t, s, signed(t, identity.Bundle{Number: number, Roots: certs(m.Root)}, m.Root))
			if got := <-told; got != number {
				t.Errorf("told of bundle %d, want %d", got, number)
			}
		}
		want := fmt.Sprintf("# HELP isthmus_trust_bundle_number Number of the bundle in force, by trust domain; 0: none has come yet.\n"+
			"# TYPE isthmus_trust_bundle_number gauge\nisthmus_trust_bundle_number{trust_domain=\"mesh.example\"} %d\n", number)
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "isthmus_trust_bundle_number"); err != nil {
			t.Error(err)
		}
	}
	cancel()
	<-ended
}
