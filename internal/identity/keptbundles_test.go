package identity_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

func TestABundleThatComesWhileTheCertificateIsReplacedStays(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	file := filepath.Join(t.TempDir(), "bundles.json")
	issue := func() *identity.Credential {
		c, err := m.Cluster("east").Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}, TTL: identitytest.TTL})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s, err := issue().Source()
	if err != nil {
		t.Fatal(err)
	}
	s.Trust().KeepBundles(file)
	const last = 8
	var renewing sync.WaitGroup
	for range last {
		next := issue().Material()
		renewing.Go(func() {
			if err := s.Replace(next); err != nil {
				t.Error(err)
			}
		})
	}
	for n := range uint64(last) {
		accept(t, s, signed(t, identity.Bundle{Number: n + 1, Roots: certs(m.Root)}, m.Root))
	}
	renewing.Wait()
	if n := s.Trust().Held()["mesh.example"]; n != last {
		t.Errorf("bundle %d is in force, %d was taken", n, last)
	}
	again := m.Gateway("east", "east-1")
	again.Trust().KeepBundles(file)
	if n := again.Trust().Held()["mesh.example"]; n != last {
		t.Errorf("bundle %d is on disk, %d was in force", n, last)
	}
}
