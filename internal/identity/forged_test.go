package identity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// forger is an authority that signs whatever it is asked to, which ours does
// not: what a stolen key or another CA program can do.
type forger struct {
	t     *testing.T
	root  *x509.Certificate
	certs []*x509.Certificate // intermediates, the nearest first
	cert  *x509.Certificate
	key   crypto.Signer
}

func newForger(t *testing.T, uris ...string) *forger {
	t.Helper()
	key := newTestKey(t)
	tmpl := caTemplate(t, "root", uris...)
	cert := signTest(t, tmpl, tmpl, key.Public(), key)
	return &forger{t: t, root: cert, cert: cert, key: key}
}

// under makes an intermediate.
func (f *forger) under(uris ...string) *forger {
	f.t.Helper()
	key := newTestKey(f.t)
	cert := signTest(f.t, caTemplate(f.t, "intermediate", uris...), f.cert, key.Public(), f.key)
	return &forger{t: f.t, root: f.root, certs: append([]*x509.Certificate{cert}, f.certs...), cert: cert, key: key}
}

// leaf makes a certificate as tweak wants it.
func (f *forger) leaf(uri string, tweak func(*x509.Certificate)) tls.Certificate {
	f.t.Helper()
	key := newTestKey(f.t)
	tmpl := caTemplate(f.t, "leaf", uri)
	tmpl.IsCA, tmpl.KeyUsage = false, x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	if tweak != nil {
		tweak(tmpl)
	}
	out := tls.Certificate{PrivateKey: key, Certificate: [][]byte{signTest(f.t, tmpl, f.cert, key.Public(), f.key).Raw}}
	for _, c := range f.certs {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out
}

// dir writes a leaf as an identity directory.
func (f *forger) dir(leaf tls.Certificate) string {
	f.t.Helper()
	dir := f.t.TempDir()
	var chain []byte
	for _, der := range leaf.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		f.t.Fatal(err)
	}
	write(f.t, dir, "cert.pem", chain)
	write(f.t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	write(f.t, dir, "roots.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.root.Raw}))
	return dir
}

func (f *forger) open(leaf tls.Certificate) (*identity.Source, error) {
	f.t.Helper()
	return identity.Open(f.dir(leaf))
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func newTestKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func caTemplate(t *testing.T, name string, uris ...string) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
	}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = append(c.URIs, u)
	}
	return c
}

func signTest(t *testing.T, tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	east1 = "spiffe://mesh.example/cluster/east/gateway/east-1"
	west1 = "spiffe://mesh.example/cluster/west/gateway/west-1"
	web   = "spiffe://mesh.example/cluster/east/ns/shop/sa/web"
)

func uris(t *testing.T, all ...string) (u []*url.URL) {
	t.Helper()
	for _, s := range all {
		parsed, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		u = append(u, parsed)
	}
	return u
}

func TestAWrongCertificateIsRefusedWithItsReason(t *testing.T) {
	root := newForger(t)
	east := root.under("spiffe://mesh.example/cluster/east")
	self, err := east.open(east.leaf(east1, nil))
	if err != nil {
		t.Fatal(err)
	}
	other, _ := url.Parse(west1)
	for _, tc := range []struct {
		name string
		cert tls.Certificate
		want string
	}{
		{"good", east.leaf(east1, nil), ""},
		{"an intermediate without a URI may speak for all", root.under().leaf(west1, nil), ""},
		{"one of the trust domain may speak for all of it", root.under("spiffe://mesh.example").leaf(west1, nil), ""},
		{"deeper within the same cluster", east.under("spiffe://mesh.example/cluster/east").leaf(east1, nil), ""},
		{"expired", east.leaf(east1, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "certificate of " + east1 + ": expired at "},
		{"not yet valid", east.leaf(east1, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), "certificate of " + east1 + ": not valid before "},
		{"no URI", east.leaf(east1, func(c *x509.Certificate) { c.URIs = nil }), "has no URI SAN"},
		{"two URIs", east.leaf(east1, func(c *x509.Certificate) { c.URIs = append(c.URIs, other) }), "has 2 URI SANs"},
		{"a workload with its name in Istio in front", east.leaf(web, func(c *x509.Certificate) { c.URIs = uris(t, "spiffe://mesh.example/ns/shop/sa/web", web) }), ""},
		{"Istio's name of another workload", east.leaf(web, func(c *x509.Certificate) { c.URIs = uris(t, "spiffe://mesh.example/ns/shop/sa/admin", web) }), "has 2 URI SANs"},
		{"Istio's name of another trust domain", east.leaf(web, func(c *x509.Certificate) { c.URIs = uris(t, "spiffe://other.example/ns/shop/sa/web", web) }), "has 2 URI SANs"},
		{"Istio's name behind our own", east.leaf(web, func(c *x509.Certificate) { c.URIs = uris(t, web, "spiffe://mesh.example/ns/shop/sa/web") }), "has 2 URI SANs"},
		{"its own name twice", east.leaf(web, func(c *x509.Certificate) { c.URIs = uris(t, web, web) }), "has 2 URI SANs"},
		{"Istio's name before two of its own", east.leaf(web, func(c *x509.Certificate) {
			c.URIs = uris(t, "spiffe://mesh.example/ns/shop/sa/web", web, "spiffe://mesh.example/cluster/east/ns/shop/sa/admin")
		}), "has 3 URI SANs"},
		{"Istio's name written otherwise", east.leaf(web, func(c *x509.Certificate) { c.URIs = uris(t, "spiffe://mesh.example/ns/shop/sa/%77eb", web) }), "has 2 URI SANs"},
		{"no name before that of a gateway", east.leaf(web, func(c *x509.Certificate) { c.URIs = uris(t, "", east1) }), "has 2 URI SANs"},
		{"Istio's name before that of a gateway", east.leaf(web, func(c *x509.Certificate) {
			c.URIs = uris(t, "spiffe://mesh.example/ns/shop/sa/web", east1)
		}), "has 2 URI SANs"},
		{"Istio's name alone", east.leaf("spiffe://mesh.example/ns/shop/sa/web", nil), "the path must be"},
		{"a CA", east.leaf(east1, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }), "is a CA"},
		{"another trust domain of the same root", root.under().leaf("spiffe://other.example/cluster/east/gateway/east-1", nil), "is of trust domain other.example, expected mesh.example"},
		{"another cluster's name", east.leaf(west1, nil), `its CA "CN=intermediate" may not speak for it, only for spiffe://mesh.example/cluster/east`},
		{"another cluster's name, deeper", east.under("spiffe://mesh.example/cluster/west").leaf(west1, nil), "only for spiffe://mesh.example/cluster/east"},
		{"another cluster's name, by a CA without one", east.under().leaf(west1, nil), "only for spiffe://mesh.example/cluster/east"},
		{"a cluster whose name begins the same", root.under("spiffe://mesh.example/cluster/eas").leaf(east1, nil), "only for spiffe://mesh.example/cluster/eas"},
		{"another trust domain's CA", root.under("spiffe://other.example/cluster/east").leaf(east1, nil), "only for spiffe://other.example/cluster/east"},
		{"a CA of something else", root.under("spiffe://mesh.example/region/x").leaf(east1, nil), "the path must be empty, /cluster/NAME, or"},
		{"a CA of two clusters", root.under("spiffe://mesh.example/cluster/east", "spiffe://mesh.example/cluster/west").leaf(east1, nil), "names spiffe://mesh.example/cluster/east and spiffe://mesh.example/cluster/west: a CA is of one cluster"},
		{"a CA with a namespace of another cluster", root.under("spiffe://mesh.example/cluster/east", "spiffe://mesh.example/cluster/west/ns/shop").leaf(east1, nil), "a CA is of one cluster"},
		{"a CA with a namespace that is none", root.under("spiffe://mesh.example/cluster/east", "spiffe://mesh.example/cluster/east/ns/a.b").leaf(east1, nil), "the path must be empty, /cluster/NAME, or"},
		{"a CA that names namespaces", root.under("spiffe://mesh.example/cluster/east", "spiffe://mesh.example/cluster/east/ns/shop").leaf(east1, nil), ""},
		{"signed by a leaf", leafSigned(t, east), "certificate of " + west1},
		{"for clients only, as a server", east.leaf(east1, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), "incompatible key usage"},
		{"without its intermediate", func() tls.Certificate {
			c := east.leaf(east1, nil)
			c.Certificate = c.Certificate[:1]
			return c
		}(), `not signed by a root of trust domain mesh.example that this process knows (issuer "CN=intermediate")`},
		{"too many", func() tls.Certificate {
			c := east.leaf(east1, nil)
			for len(c.Certificate) < 9 {
				c.Certificate = append(c.Certificate, east.cert.Raw)
			}
			return c
		}(), "chain of 9 certificates is longer than 8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := &tls.Config{Certificates: []tls.Certificate{tc.cert}, ClientAuth: tls.RequestClientCert}
			_, _, err, _ := handshake(t, self.ClientTLS("x", identity.AnyMember()), server)
			wantError(t, "client", err, tc.want)
		})
	}
}

// leafSigned is a certificate that another gateway signed with its own key.
func leafSigned(t *testing.T, ca *forger) tls.Certificate {
	signer := ca.leaf(east1, nil)
	cert, err := x509.ParseCertificate(signer.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{t: t, root: ca.root, certs: append([]*x509.Certificate{cert}, ca.certs...), cert: cert, key: signer.PrivateKey.(crypto.Signer)}
	return f.leaf(west1, nil)
}

func TestAnExpiredIntermediateIsNamed(t *testing.T) {
	root := newForger(t)
	self, err := root.open(root.leaf(east1, nil))
	if err != nil {
		t.Fatal(err)
	}
	key := newTestKey(t)
	tmpl := caTemplate(t, "old", "spiffe://mesh.example/cluster/east")
	tmpl.NotAfter = time.Now().Add(-time.Minute)
	cert := signTest(t, tmpl, root.cert, key.Public(), root.key)
	old := &forger{t: t, root: root.root, certs: []*x509.Certificate{cert}, cert: cert, key: key}
	_, _, err, _ = handshake(t, self.ClientTLS("x", identity.AnyMember()),
		&tls.Config{Certificates: []tls.Certificate{old.leaf(east1, nil)}, ClientAuth: tls.RequestClientCert})
	wantError(t, "client", err, `certificate of `+east1+`: CA "CN=old": expired at `)
}

func TestOnlyWhatTheRootHasSignedSaysWhenAClusterWasFounded(t *testing.T) {
	root := newForger(t)
	cluster := root.under("spiffe://mesh.example/cluster/east")
	founding := func(f *forger) identity.Founding {
		s, err := f.open(f.leaf(east1, nil))
		if err != nil {
			t.Fatal(err)
		}
		return s.Self().Founding
	}
	// Who has the cluster's key makes itself older, where its CA lets it make CAs.
	key := newTestKey(t)
	tmpl := caTemplate(t, "older", "spiffe://mesh.example/cluster/east")
	tmpl.NotBefore = time.Unix(0, 0)
	cert := signTest(t, tmpl, cluster.cert, key.Public(), cluster.key)
	older := &forger{t: t, root: root.root, certs: append([]*x509.Certificate{cert}, cluster.certs...), cert: cert, key: key}
	if got, want := founding(older), founding(cluster); got != want || got.IsZero() {
		t.Errorf("founded %s, want %s", got, want)
	}
}
