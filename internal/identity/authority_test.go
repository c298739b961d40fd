package identity_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

func newRoot(t *testing.T) *identity.Authority {
	t.Helper()
	root, err := identity.NewRoot("mesh.example", identity.DefaultRootTTL)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func newCluster(t *testing.T, root *identity.Authority) *identity.Authority {
	t.Helper()
	east, err := root.NewCluster("east", nil, identity.DefaultClusterTTL)
	if err != nil {
		t.Fatal(err)
	}
	return east
}

func TestAnAuthorityIssuesOnlyWhatPeersAccept(t *testing.T) {
	root := newRoot(t)
	east := newCluster(t, root)
	for _, tc := range []struct {
		name string
		ca   *identity.Authority
		id   identity.ID
		want string
	}{
		{"gateway", east, identity.ID{Gateway: "east-1"}, ""},
		{"workload", east, identity.ID{Namespace: "shop", ServiceAccount: "orders"}, ""},
		{"by the root", root, identity.ID{Cluster: "east", Gateway: "east-1"}, ""},
		{"nobody", east, identity.ID{}, "SPIFFE ID"},
		{"both", east, identity.ID{Gateway: "east-1", Namespace: "shop", ServiceAccount: "orders"}, "it must be a gateway, a CA or a workload"},
		{"without a cluster", root, identity.ID{Gateway: "east-1"}, "SPIFFE ID"},
		{"a bad name", east, identity.ID{Gateway: "East 1"}, "SPIFFE ID"},
		{"another cluster", east, identity.ID{Cluster: "west", Gateway: "west-1"}, "cannot issue spiffe://mesh.example/cluster/west/gateway/west-1"},
		{"another trust domain", east, identity.ID{TrustDomain: "other.example", Gateway: "east-1"}, "cannot issue"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := tc.ca.Issue(identity.Request{ID: tc.id})
			wantError(t, "issue", err, tc.want)
			if err != nil {
				return
			}
			s, err := c.Source()
			if err != nil || s.ID() != c.ID() {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
	_, err := east.NewCluster("west", nil, time.Hour)
	wantError(t, "a cluster's cluster", err, "only the root can")
	_, err = root.NewCluster("West!", nil, time.Hour)
	wantError(t, "a bad name", err, "lower-case")
	for _, td := range []string{"", "Mesh.example", "mesh example", "spiffe://mesh.example", "mesh.example/x"} {
		_, err := identity.NewRoot(td, time.Hour)
		wantError(t, td, err, "trust domain")
	}
}

func TestNothingOutlivesItsAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		east := newCluster(t, newRoot(t))
		c, err := east.Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}, TTL: 5 * identity.DefaultClusterTTL})
		if err != nil || !c.NotAfter().Equal(east.NotAfter()) {
			t.Errorf("%v, %v; want %s", c.NotAfter(), err, east.NotAfter())
		}
		_, err = east.Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}, TTL: -time.Hour})
		wantError(t, "negative", err, "must be positive")
		time.Sleep(identity.DefaultClusterTTL + time.Hour)
		_, err = east.Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}})
		wantError(t, "an expired authority", err, `the CA "CN=Isthmus cluster east,O=Isthmus": expired at 2000-12-31T00:00:00Z`)
	})
}

func TestACertificateMayBeginLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		east := newCluster(t, newRoot(t))
		c, err := east.Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}, NotBefore: time.Now().Add(time.Hour), TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Source()
		wantError(t, "now", err, "not valid before 2000-01-01T01:00:00Z, it is 2000-01-01T00:00:00Z here: check the clock")
		time.Sleep(time.Hour)
		_, err = c.Source()
		wantError(t, "then", err, "")
	})
}

func TestAnAuthorityIsReadAsItWasSaved(t *testing.T) {
	dir, moved := t.TempDir(), t.TempDir()
	root := newRoot(t)
	east := newCluster(t, root)
	for _, a := range []*identity.Authority{root, east} {
		if err := a.Save(dir, false); err != nil {
			t.Fatal(err)
		}
		wantError(t, "again", a.Save(dir, false), "already holds")
	}
	if got, err := identity.OpenRoot(dir); err != nil {
		t.Errorf("root: %v", err)
	} else if _, err := got.NewCluster("west", nil, time.Hour); err != nil {
		t.Errorf("the root opened again makes no cluster: %v", err)
	}
	// The cluster's directory is enough to issue for the cluster.
	if err := os.Rename(filepath.Join(dir, "east"), filepath.Join(moved, "east")); err != nil {
		t.Fatal(err)
	}
	got, err := identity.OpenCluster(moved, "east")
	if err != nil {
		t.Fatal(err)
	}
	c, err := got.Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Source(); err != nil {
		t.Error(err)
	}
	if err := os.Rename(filepath.Join(moved, "east"), filepath.Join(moved, "west")); err != nil {
		t.Fatal(err)
	}
	_, err = identity.OpenCluster(moved, "west")
	wantError(t, "another's directory", err, "is the CA of spiffe://mesh.example/cluster/east, not of cluster west")
	write(t, filepath.Join(moved, "west"), "ca-key.pem", readFile(t, dir, "root-key.pem"))
	_, err = identity.OpenCluster(moved, "west")
	wantError(t, "another's key", err, "the key beside it is not its own")
	_, err = identity.OpenCluster(dir, "../x")
	wantError(t, "a path", err, "lower-case")
	_, err = identity.OpenRoot(moved)
	wantError(t, "no root", err, "make it with 'isthmus pki init'")
}

func readFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
