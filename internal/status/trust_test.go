package status

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

func TestWhatIsTrustedCountsTheRootsOfFilesToo(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	s := m.Gateway("west", "west-1")
	trust := TrustOf(s)
	if len(trust) != 1 || len(trust[0].Roots) != 1 || trust[0].Bundle != 0 || trust[0].Roots[0].Retired {
		t.Errorf("without a bundle: %+v, want the root of the files", trust)
	}
	next, err := identity.NewRoot("mesh.example", 365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	both, err := identity.Bundle{TrustDomain: "mesh.example", Number: 1, Made: time.Now(),
		Roots: []*x509.Certificate{m.Root.Certificate(), next.Certificate()}}.Sign(m.Root, next)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Trust().Accept(both.Bytes()); err != nil {
		t.Fatal(err)
	}
	if trust = TrustOf(s); len(trust[0].Roots) != 2 || trust[0].Bundle != 1 {
		t.Errorf("with a bundle of two: %+v", trust)
	}
}

func TestWhoLacksABundleIsCalledWhatItIs(t *testing.T) {
	for id, want := range map[string]string{
		"spiffe://mesh.example/cluster/west/ns/shop/sa/orders": "sidecar spiffe://mesh.example/cluster/west/ns/shop/sa/orders",
		"spiffe://mesh.example/cluster/west/ca/west-ca":        "CA spiffe://mesh.example/cluster/west/ca/west-ca",
	} {
		if got := (Lacking{Sidecar: id}).Who(); got != want {
			t.Errorf("%s is called %q, want %q", id, got, want)
		}
	}
}
