package identity_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

func TestWhoHasShownANewerCertificateKeepsAnOlderConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		east := newCluster(t, newRoot(t))
		source := func(ttl time.Duration) *identity.Source {
			c, err := east.Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}, TTL: ttl})
			if err != nil {
				t.Fatal(err)
			}
			s, err := c.Source()
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		us := source(24 * time.Hour)
		var r identity.Renewals
		older, _, err, _ := handshake(t, us.ClientTLS("x", identity.AnyGateway()), source(time.Minute).ServerTLS(identity.AnyGateway()))
		if err != nil {
			t.Fatal(err)
		}
		r.Seen(older)
		time.Sleep(2 * time.Minute)
		wantError(t, "who has shown nothing newer", r.Trusts(us.Trust(), older, identity.AnyGateway()), "expired")
		newer, _, err, _ := handshake(t, us.ClientTLS("x", identity.AnyGateway()), source(time.Hour).ServerTLS(identity.AnyGateway()))
		if err != nil {
			t.Fatal(err)
		}
		r.Seen(newer)
		wantError(t, "who has renewed", r.Trusts(us.Trust(), older, identity.AnyGateway()), "")
		wantError(t, "who may not play the role", r.Trusts(us.Trust(), older, identitytest.AnyWorkload()), "expected a workload")
		time.Sleep(2 * time.Hour)
		wantError(t, "who has not renewed again", r.Trusts(us.Trust(), older, identity.AnyGateway()), "expired")
	})
}
