package identity_test

import (
	"crypto/tls"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

var ordersID = identity.ID{Namespace: "shop", ServiceAccount: "orders"}

func newToken(t *testing.T, a *identity.Authority, id identity.ID, ttl time.Duration) string {
	t.Helper()
	text, _, err := a.NewToken(id, "ca-1", ttl)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestATokenSaysWhomItMakesAndWhomToTrust(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	west := m.Cluster("west")
	text, made, err := west.NewToken(ordersID, "ca-1", identity.DefaultTokenTTL)
	if err != nil {
		t.Fatal(err)
	}
	read, err := identity.ReadToken(text + "\n") // as from a file
	if err != nil {
		t.Fatal(err)
	}
	verified, err := west.VerifyToken(text, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []identity.Token{read, verified} {
		if got.ID.String() != "spiffe://mesh.example/cluster/west/ns/shop/sa/orders" || got.CA != "ca-1" || got.Serial != made.Serial ||
			!got.Expires.Equal(made.Expires) || len(got.Roots) != 1 || got.Roots[0] != m.Root.Fingerprint() {
			t.Errorf("%+v, want %+v", got, made)
		}
	}
	if strings.ContainsAny(text, " \n=/+") || len(text) > 512 {
		t.Errorf("a token is one short word: %d bytes, %q", len(text), text)
	}
}

func TestATokenIsForAWorkloadOrGatewayOfItsCluster(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	west := m.Cluster("west")
	for _, c := range []struct {
		name string
		a    *identity.Authority
		id   identity.ID
		ca   string
		ttl  time.Duration
		want string
	}{
		{"a gateway", west, identity.ID{Gateway: "west-1"}, "ca-1", time.Minute, ""},
		{"a CA", west, identity.ID{CA: "ca-2"}, "ca-1", time.Minute, "a CA makes its own certificate"},
		{"nobody", west, identity.ID{}, "ca-1", time.Minute, "empty segments"},
		{"two at once", west, identity.ID{Gateway: "west-1", Namespace: "shop", ServiceAccount: "orders"}, "ca-1", time.Minute, "not two of them"},
		{"no CA named", west, ordersID, "", time.Minute, "the CA's name"},
		{"for ever", west, ordersID, "ca-1", 25 * time.Hour, "write 1s to 24h0m0s"},
		{"for no time", west, ordersID, "ca-1", 0, "write 1s to 24h0m0s"},
		{"by the root", m.Root, ordersID, "ca-1", time.Minute, "the root makes no tokens"},
	} {
		_, _, err := c.a.NewToken(c.id, c.ca, c.ttl)
		wantError(t, c.name, err, c.want)
	}
}

func TestATokenThatItsCADidNotMakeOrThatHasEndedIsRefused(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	west, east := m.Cluster("west"), m.Cluster("east")
	good := newToken(t, west, ordersID, identity.DefaultTokenTTL)
	now := time.Now()
	parts := strings.Split(good, ".") // the payload's and the signature's base64 have no dot
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	with := func(old, with string) string {
		return parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), old, with, 1))) + "." + parts[2]
	}
	for _, c := range []struct {
		name, text string
		now        time.Time
		want       string
	}{
		{"good", good, now, ""},
		{"in its last moment", good, now.Truncate(time.Second).Add(identity.DefaultTokenTTL - time.Nanosecond), ""},
		{"ended", good, now.Add(identity.DefaultTokenTTL), "it ended at"},
		{"ended, and tried again", good, now.Add(identity.DefaultTokenTTL).Truncate(time.Minute).Add(time.Minute + 59*time.Second), now.Add(identity.DefaultTokenTTL).Truncate(time.Minute).Add(time.Minute).UTC().Format(time.RFC3339)},
		{"long before it was made", good, now.Add(-2 * time.Hour), "check the clock"},
		{"another cluster's", newToken(t, east, ordersID, time.Minute), now, "not made with the key of this CA"},
		{"with another identity", with("sa/orders", "sa/admins"), now, "not made with the key of this CA"},
		{"with another CA", with("ca-1", "ca-2"), now, "not made with the key of this CA"},
		{"with a CA's identity", with("ns/shop/sa/orders", "ca/ca-1"), now, "a CA makes its own certificate"},
		{"with another end", with(`"expires":1`, `"expires":2`), now, "at most 24h0m0s is taken"},
		{"with an unknown field", with(`{`, `{"admin":true,`), now, "unknown field"},
		{"without a signature", parts[0] + "." + parts[1] + ".", now, "not made with the key of this CA"},
		{"without its payload", parts[0] + ".." + parts[2], now, "payload"},
		{"of another version", strings.Replace(good, "token-1", "token-2", 1), now, "does not read isthmus-token-1."},
		{"a JWT", "eyJhbGciOiJub25lIn0.e30.", now, "does not read isthmus-token-1."},
		{"nothing", "", now, "does not read isthmus-token-1."},
		{"huge", good + strings.Repeat("A", 1<<20), now, "bytes are more than"},
		{"with padding", good + "=", now, "signature"},
	} {
		_, err := west.VerifyToken(c.text, c.now)
		wantError(t, c.name, err, c.want)
	}
}

func TestWhoHasATokenTrustsTheCAOfItsClusterAndNobodyElse(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	west := m.Cluster("west")
	token, err := identity.ReadToken(newToken(t, west, ordersID, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	withRoots := func(s *identity.Source) *tls.Config { return s.OpenServerTLS(identity.AnyMember()) }
	stranger := identitytest.New(t, "mesh.example")
	for _, c := range []struct {
		name string
		peer *identity.Source
		want string
	}{
		{"its CA", caOf(t, west, "ca-1"), ""},
		{"another CA of the cluster", caOf(t, west, "ca-2"), ""}, // it says that the token is not for it
		{"another cluster's CA", caOf(t, m.Cluster("east"), "ca-1"), "expected a CA of cluster west"},
		{"a workload of the cluster", m.Workload("west", "shop", "orders"), "under none of the roots"},
		{"the CA of another root", caOf(t, stranger.Cluster("west"), "ca-1"), "under none of the roots"},
	} {
		_, ss, atClient, _ := handshake(t, token.FirstTrust().ClientTLS(), withRoots(c.peer))
		wantError(t, c.name, atClient, c.want)
		if len(ss.PeerCertificates) > 0 {
			t.Errorf("%s: it has shown something", c.name)
		}
	}
	cs, _, atClient, _ := handshake(t, token.FirstTrust().ClientTLS(), withRoots(caOf(t, west, "ca-1")))
	if roots := token.FirstTrust().RootsOf(cs); atClient != nil || len(roots) != 1 || identity.FingerprintOf(roots[0]) != m.Root.Fingerprint() {
		t.Errorf("its roots are %v, %v", roots, atClient)
	}
}

func TestWhoKnowsAFingerprintTrustsTheCAOfItsClusterAndNobodyElse(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	first := identity.FirstTrust{Cluster: "west", Roots: []identity.Fingerprint{m.Root.Fingerprint()}}
	for _, c := range []struct {
		name string
		peer *identity.Source
		want string
	}{
		{"its CA", caOf(t, m.Cluster("west"), "ca-1"), ""},
		{"another cluster's CA", caOf(t, m.Cluster("east"), "ca-1"), "expected a CA of cluster west"},
		{"the CA of another root", caOf(t, identitytest.New(t, "mesh.example").Cluster("west"), "ca-1"), "under none of the roots"},
		{"a workload of the cluster", m.Workload("west", "shop", "orders"), "under none of the roots"},
	} {
		cs, ss, atClient, _ := handshake(t, first.ClientTLS(), c.peer.OpenServerTLS(identity.AnyMember()))
		wantError(t, c.name, atClient, c.want)
		if len(ss.PeerCertificates) > 0 {
			t.Errorf("%s: it has shown something", c.name)
		}
		if c.want == "" && len(first.RootsOf(cs)) != 1 {
			t.Errorf("%s: its roots are %v", c.name, first.RootsOf(cs))
		}
	}
	f := newForger(t)
	leaf := f.under("spiffe://mesh.example/cluster/west").leaf("spiffe://other.example/cluster/west/ca/ca-1", nil)
	leaf.Certificate = append(leaf.Certificate, f.root.Raw)
	first.Roots = []identity.Fingerprint{identity.FingerprintOf(f.root)}
	_, _, atClient, _ := handshake(t, first.ClientTLS(), &tls.Config{Certificates: []tls.Certificate{leaf}})
	wantError(t, "a CA of a trust domain that its intermediate does not speak for", atClient, "may not speak for it")
}

func TestAWorkloadWithTheRootInItsChainIsNoCA(t *testing.T) {
	f := newForger(t)
	west := f.under("spiffe://mesh.example/cluster/west")
	leaf := west.leaf("spiffe://mesh.example/cluster/west/ns/shop/sa/evil", nil)
	leaf.Certificate = append(leaf.Certificate, f.root.Raw)
	token := identity.Token{ID: identity.ID{TrustDomain: "mesh.example", Cluster: "west"}, Roots: []identity.Fingerprint{identity.FingerprintOf(f.root)}}
	_, _, atClient, _ := handshake(t, token.FirstTrust().ClientTLS(), &tls.Config{Certificates: []tls.Certificate{leaf}})
	wantError(t, "client", atClient, "expected a CA of cluster west of mesh.example, but the peer is")
}

func TestAnAuthorityCertifiesTheKeyOfAnother(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	key := newTestKey(t)
	chain, err := m.Cluster("west").Certify(identity.Request{ID: ordersID, TTL: time.Hour}, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.IDOf(chain[0])
	if err != nil || id.ServiceAccount != "orders" || len(chain) != 2 || len(chain[0].URIs) != 1 {
		t.Errorf("%s, %v, a chain of %d", id, err, len(chain))
	}
	if uri, _ := url.Parse("spiffe://mesh.example/cluster/west"); chain[1].URIs[0].String() != uri.String() {
		t.Errorf("then %v", chain[1].URIs)
	}
}

func FuzzToken(f *testing.F) {
	root, err := identity.NewRoot("mesh.example", time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	west, err := root.NewCluster("west", nil, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	good, _, err := west.NewToken(ordersID, "ca-1", time.Minute)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	f.Add(good)
	f.Add("isthmus-token-1.e30.AA")
	f.Add("isthmus-token-1.." + strings.Repeat("A", 100))
	f.Fuzz(func(t *testing.T, text string) {
		_, readErr := identity.ReadToken(text)
		token, err := west.VerifyToken(text, now)
		if err == nil && (readErr != nil || strings.TrimSpace(text) != good || token.ID.Cluster != "west") {
			t.Errorf("%q is taken as %+v", text, token)
		}
	})
}
