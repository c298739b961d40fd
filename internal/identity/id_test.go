package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAnIDReadsBackAsItWasWritten(t *testing.T) {
	for uri, want := range map[string]identity.ID{
		"spiffe://mesh.example/cluster/east/gateway/east-1":          {TrustDomain: "mesh.example", Cluster: "east", Gateway: "east-1"},
		"spiffe://mesh.example/cluster/west/ca/ca-1":                 {TrustDomain: "mesh.example", Cluster: "west", CA: "ca-1"},
		"spiffe://mesh.example/cluster/west/ns/shop/sa/orders":       {TrustDomain: "mesh.example", Cluster: "west", Namespace: "shop", ServiceAccount: "orders"},
		"spiffe://mesh.example/cluster/west/ns/shop/sa/orders.batch": {TrustDomain: "mesh.example", Cluster: "west", Namespace: "shop", ServiceAccount: "orders.batch"},
		"spiffe://m/cluster/ns/ns/ns/sa/sa":                          {TrustDomain: "m", Cluster: "ns", Namespace: "ns", ServiceAccount: "sa"},
	} {
		got, err := identity.ParseID(uri)
		if err != nil || got != want || got.String() != uri {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
	gw := identity.ID{TrustDomain: "m", Cluster: "east", Gateway: "east-1"}
	if !gw.IsGateway() || gw.GatewayID() != (mesh.GatewayID{Cluster: "east", Name: "east-1"}) {
		t.Errorf("%+v", gw.GatewayID())
	}
	wl := identity.ID{TrustDomain: "m", Cluster: "east", Namespace: "a", ServiceAccount: "b"}
	ca := identity.ID{TrustDomain: "m", Cluster: "east", CA: "ca-1"}
	if !ca.IsCA() || ca.IsGateway() || ca.IsWorkload() || wl.IsCA() || !wl.IsWorkload() || gw.IsWorkload() || gw.IsCA() {
		t.Error("somebody is two of gateway, CA and workload, or none")
	}
	if wl.IsGateway() || !wl.GatewayID().IsZero() {
		t.Errorf("a workload is gateway %v", wl.GatewayID())
	}
}

var badIDs = []string{
	"", "x", "https://mesh.example/cluster/east/gateway/a", "spiffe://", "spiffe://mesh.example", "spiffe://mesh.example/",
	"spiffe://Mesh.example/cluster/east/gateway/a", "spiffe://mesh.example:1/cluster/east/gateway/a",
	"spiffe://mesh.example/cluster/east", "spiffe://mesh.example/cluster/east/gateway", "spiffe://mesh.example/cluster/east/gateway/",
	"spiffe://mesh.example/cluster/East/gateway/a", "spiffe://mesh.example/cluster/east/gateway/a.b", "spiffe://mesh.example/cluster/east/gateway/a/b",
	"spiffe://mesh.example/cluster//gateway/a", "spiffe://mesh.example//cluster/east/gateway/a", "spiffe://mesh.example/cluster/east/gateway/..",
	"spiffe://mesh.example/cluster/east/ca", "spiffe://mesh.example/cluster/east/ca/", "spiffe://mesh.example/cluster/east/ca/a.b",
	"spiffe://mesh.example/cluster/east/ca/a/b", "spiffe://mesh.example/ca/a", "spiffe://mesh.example/cluster/East/ca/a",
	"spiffe://mesh.example/cluster/east/ns/shop", "spiffe://mesh.example/cluster/east/ns/a.b/sa/x", "spiffe://mesh.example/cluster/east/ns/a/sa/x..y",
	"spiffe://mesh.example/cluster/east/sa/a/ns/b", "spiffe://mesh.example/ns/shop/sa/orders", "spiffe://mesh.example/cluster/east/gateway/a?x=y",
	"spiffe://mesh.example/cluster/east/gateway/a#f", "spiffe://mesh.example/cluster/east/gateway/%61",
}

func TestWhatIsNotAnIDIsRefused(t *testing.T) {
	for _, uri := range badIDs {
		if id, err := identity.ParseID(uri); err == nil {
			t.Errorf("%q: accepted as %+v", uri, id)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range append(badIDs, "spiffe://m/cluster/e/gateway/g", "spiffe://m/cluster/e/ns/n/sa/s.t") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := identity.ParseID(s)
		if err != nil {
			return
		}
		if id.String() != s {
			t.Errorf("%q reads as %+v, which is written %q", s, id, id)
		}
		roles := 0
		for _, is := range []bool{id.IsGateway(), id.IsCA(), id.IsWorkload() && id.Namespace != "" && id.ServiceAccount != ""} {
			if is {
				roles++
			}
		}
		if roles != 1 {
			t.Errorf("%q has %d roles: %+v", s, roles, id)
		}
	})
}

func TestACertificateHasExactlyOneURI(t *testing.T) {
	uri := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	good := uri("spiffe://mesh.example/cluster/east/gateway/east-1")
	name := pkix.Name{CommonName: "somebody"}
	for _, tc := range []struct {
		name string
		cert x509.Certificate
		want string
	}{
		{"one", x509.Certificate{URIs: []*url.URL{good}}, ""},
		{"none", x509.Certificate{Subject: name}, `certificate "CN=somebody" has no URI SAN: it must have exactly one`},
		{"none and no subject", x509.Certificate{SerialNumber: big.NewInt(255)}, "certificate with serial ff has no URI SAN"},
		{"two", x509.Certificate{Subject: name, URIs: []*url.URL{good, uri("spiffe://a/b")}}, "has 2 URI SANs (spiffe://mesh.example/cluster/east/gateway/east-1, spiffe://a/b, …): it must have exactly one"},
		{"the same twice", x509.Certificate{Subject: name, URIs: []*url.URL{good, good}}, "has 2 URI SANs"},
		{"not SPIFFE", x509.Certificate{URIs: []*url.URL{uri("https://east-1")}}, `SPIFFE ID "https://east-1"`},
		{"CA", x509.Certificate{Subject: name, IsCA: true, URIs: []*url.URL{good}}, "is a CA"},
		{"may sign certificates", x509.Certificate{Subject: name, KeyUsage: x509.KeyUsageCertSign, URIs: []*url.URL{good}}, "is a CA"},
		{"may sign revocations", x509.Certificate{Subject: name, KeyUsage: x509.KeyUsageCRLSign, URIs: []*url.URL{good}}, "is a CA"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := identity.IDOf(&tc.cert)
			wantError(t, "IDOf", err, tc.want)
		})
	}
}

func TestAnUnfinishedHandshakeHasNoPeer(t *testing.T) {
	_, err := identity.PeerID(tls.ConnectionState{})
	wantError(t, "before", err, "not complete")
	_, err = identity.PeerID(tls.ConnectionState{HandshakeComplete: true})
	wantError(t, "anonymous", err, "sent no certificate")
}
