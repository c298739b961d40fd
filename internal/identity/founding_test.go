package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

func sourceOf(t *testing.T, ca *identity.Authority) *identity.Source {
	t.Helper()
	c, err := ca.Issue(identity.Request{ID: identity.ID{Cluster: "east", Gateway: "east-1"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Source()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnIntermediateThatReplacesAnotherIsOfTheSameClusterAndOneMadeApartIsNot(t *testing.T) {
	root := newRoot(t)
	first := newCluster(t, root)
	renewed, err := root.RenewCluster(first, nil, identity.DefaultClusterTTL)
	if err != nil {
		t.Fatal(err)
	}
	again, err := root.RenewCluster(renewed, nil, identity.DefaultClusterTTL)
	if err != nil {
		t.Fatal(err)
	}
	want := sourceOf(t, first).Self().Founding
	if want.IsZero() {
		t.Fatal("a cluster has no founding")
	}
	for name, ca := range map[string]*identity.Authority{"renewed": renewed, "renewed twice": again} {
		if got := sourceOf(t, ca).Self().Founding; got != want {
			t.Errorf("%s: founded %v, want %v", name, got, want)
		}
	}
	if got := sourceOf(t, newCluster(t, root)).Self().Founding; got == want || got.IsZero() {
		t.Errorf("another cluster of the same name has founding %v, the first %v", got, want)
	}
	if got := sourceOf(t, root).Self().Founding; !got.IsZero() {
		t.Errorf("what the root signed itself has founding %v", got)
	}
}

func TestAFoundingIsReadOfTheCertificateThatSignedOnly(t *testing.T) {
	root := newRoot(t)
	first, other := newCluster(t, root), newCluster(t, root)
	s := sourceOf(t, first)
	chain := func(s *identity.Source) (certs []*x509.Certificate) {
		c := s.ServerTLS(identity.AnyGateway())
		cert, err := c.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		for _, der := range cert.Certificate {
			x, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			certs = append(certs, x)
		}
		return certs
	}
	own, others := chain(s), chain(sourceOf(t, other))
	sent := []*x509.Certificate{own[0], others[1], own[1]}
	if got, err := s.Trust().Peer(tls.ConnectionState{PeerCertificates: sent}); err != nil || got.Founding != s.Self().Founding {
		t.Errorf("founding %v, %v, want %v", got, err, s.Self().Founding)
	}
	elsewhere := sourceOf(t, newCluster(t, newRoot(t)))
	if got, err := elsewhere.Trust().Peer(tls.ConnectionState{PeerCertificates: own}); err == nil {
		t.Errorf("of a root that is not trusted: %v", got)
	}
}
