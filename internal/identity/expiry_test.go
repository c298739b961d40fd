package identity_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

func TestAProcessWhoseOwnCertificateHasExpiredSaysSoWithTheDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		c, err := newCluster(t, root).Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}, TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Source()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Err(); err != nil {
			t.Errorf("a valid certificate: %v", err)
		}
		peer, err := newCluster(t, root).Issue(identity.Request{ID: identity.ID{Gateway: "east-2"}, TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		server, err := peer.Source()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		_, _, cerr, _ := handshake(t, s.ClientTLS("x", identity.AnyGateway()), server.ServerTLS(identity.AnyGateway()))
		for where, err := range map[string]error{"Err": s.Err(), "a dial": cerr} {
			var expired *identity.ExpiredError
			if !errors.As(err, &expired) || !expired.NotAfter.Equal(c.NotAfter()) {
				t.Errorf("%s: %v, want it to say that the own certificate has expired", where, err)
				continue
			}
			for _, want := range []string{c.NotAfter().UTC().Format(time.RFC3339), "isthmus pki", c.ID().String()} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %q does not say %q", where, err, want)
				}
			}
		}
	})
}

func TestTheLogSaysThatTheOwnCertificateHasExpiredAlsoAfterAWarning(t *testing.T) {
	t.Parallel()
	east, dir := newCluster(t, newRoot(t)), t.TempDir()
	issueTo(t, east, "east-1", 6*time.Second, dir) // it is read before
	_, log := follow(t, dir)
	log.next(t, "certificate expires soon")
	log.next(t, "certificate has expired")
	// A look at the files, which are those in use, does not call them bad.
	if err := os.WriteFile(filepath.Join(dir, "notice"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-log:
		t.Errorf("logged %q", line)
	case <-time.After(time.Second):
	}
	issueTo(t, east, "east-1", 30*24*time.Hour, dir)
	touchUntil(t, dir, log, "identity replaced")
}

func TestWhoHasRenewedIsTrustedOnAnOlderConnectionUntilItsRootGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		east := newCluster(t, root)
		source := func(a *identity.Authority, ttl time.Duration) *identity.Source {
			c, err := a.Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}, TTL: ttl})
			if err != nil {
				t.Fatal(err)
			}
			s, err := c.Source()
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		short, long := source(east, time.Minute), source(east, time.Hour)
		cs, _, err, _ := handshake(t, long.ClientTLS("x", identity.AnyGateway()), short.ServerTLS(identity.AnyGateway()))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		wantError(t, "the expired certificate", long.Trust().Trusts(cs, identity.AnyGateway()), "expired")
		wantError(t, "who has renewed it", long.Trust().TrustsRenewed(cs, identity.AnyGateway()), "")
		wantError(t, "who has another role", long.Trust().TrustsRenewed(cs, identitytest.AnyWorkload()), "expected a workload")
		other := source(newCluster(t, newRoot(t)), time.Hour)
		wantError(t, "whose root is gone", other.Trust().TrustsRenewed(cs, identity.AnyGateway()), "not signed by a root")
	})
}
