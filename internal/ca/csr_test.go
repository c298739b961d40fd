package ca

import (
	"crypto"
	"crypto/dsa" //nolint:staticcheck // a key that nobody certifies
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

func newPool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

func must[T any](t testing.TB, make func() (T, error)) T {
	t.Helper()
	v, err := make()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func ecKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	return must(t, func() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(c, rand.Reader) })
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	return must(t, func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) })
}

func TestKeysThatAreTooWeakOrTooLargeAreNotCertified(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		key  crypto.Signer
		want string
	}{
		{"P-256", ecKey(t, elliptic.P256()), ""}, {"P-384", ecKey(t, elliptic.P384()), ""},
		{"P-521", ecKey(t, elliptic.P521()), "an ECDSA key on curve P-521"}, {"P-224", ecKey(t, elliptic.P224()), "an ECDSA key on curve P-224"},
		{"Ed25519", ed, ""}, {"RSA 2048", rsaKey(t, 2048), ""}, {"RSA 1024", rsaKey(t, 1024), "an RSA key of 1024 bits: use"},
	} {
		csr, refused := parseCSR(csrOf(t, c.key))
		switch {
		case c.want == "" && (refused != nil || csr == nil):
			t.Errorf("%s: %v", c.name, refused)
		case c.want != "" && (refused == nil || refused.code != codes.InvalidArgument || !strings.Contains(refused.err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, refused, c.want)
		}
	}
	for _, key := range []crypto.PublicKey{
		&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 4096), E: 65537}, &dsa.PublicKey{}, nil,
	} {
		if checkKey(key) == nil {
			t.Errorf("%T is certified", key)
		}
	}
}

func TestARequestFromOutsideIsCheckedBeforeItIsAnswered(t *testing.T) {
	good := csrOf(t, newKey(t))
	block, _ := pem.Decode([]byte(good))
	forged := append([]byte(nil), block.Bytes...)
	forged[len(forged)-1] ^= 1
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for _, c := range []struct{ name, csr, want string }{
		{"good", good, ""},
		{"as old tools write it", encode("NEW CERTIFICATE REQUEST", block.Bytes), ""},
		{"nothing", "", "holds no PEM certificate request"},
		{"not PEM", "hello", "holds no PEM certificate request"},
		{"DER", string(block.Bytes), "holds no PEM certificate request"},
		{"a certificate", encode("CERTIFICATE", block.Bytes), "holds no PEM certificate request"},
		{"a broken one", encode("CERTIFICATE REQUEST", block.Bytes[:50]), "csr: "},
		{"two", good + good, "more than one"},
		{"text behind", good + "x", "more than one"},
		{"somebody else's signature", encode("CERTIFICATE REQUEST", forged), "not signed with its own key"},
		{"huge", good + strings.Repeat("\n", maxCSR), "bytes are more than 16384"},
	} {
		_, refused := parseCSR(c.csr)
		if c.want == "" && refused != nil || c.want != "" && (refused == nil || !strings.Contains(refused.err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, refused, c.want)
		}
	}
}

func TestWhatARequestSaysBesideItsKeyIsNotIssued(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	basic, err := asn1.Marshal(struct {
		IsCA bool
	}{true})
	if err != nil {
		t.Fatal(err)
	}
	csr := csrFrom(t, &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: "admins", Organization: []string{"system:masters"}},
		DNSNames:        []string{"orders.shop.mesh"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: basic}},
	}, newKey(t))
	parsed, refused := parseCSR(csr)
	if refused != nil || checkNames(parsed, orders) != nil {
		t.Fatal(refused)
	}
	chain, refused := ca.certify(proven{id: orders}, parsed, ca.cfg.TTL, time.Now())
	if refused != nil {
		t.Fatal(refused.err)
	}
	if leaf := chain[0]; leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 || leaf.Subject.String() != "" || len(leaf.DNSNames) != 2 {
		t.Errorf("a CA %v, for %q, %v", leaf.IsCA, leaf.Subject, leaf.DNSNames)
	}
}

func TestWhoAsksByItsNameInIstioGetsThatNameToo(t *testing.T) {
	ca := newTestCluster(t).ca("ca-1")
	for _, tc := range []struct {
		asked string
		want  []string
	}{
		{orders.String(), []string{orders.String()}},
		{orders.IstioName(), []string{orders.IstioName(), orders.String()}}, // as a ztunnel asks
	} {
		asked, err := url.Parse(tc.asked)
		if err != nil {
			t.Fatal(err)
		}
		parsed, refused := parseCSR(csrFrom(t, &x509.CertificateRequest{URIs: []*url.URL{asked}}, newKey(t)))
		if refused != nil || checkNames(parsed, orders) != nil {
			t.Fatal(refused)
		}
		chain, refused := ca.certify(proven{id: orders}, parsed, ca.cfg.TTL, time.Now())
		if refused != nil {
			t.Fatal(refused.err)
		}
		var got []string
		for _, u := range chain[0].URIs {
			got = append(got, u.String())
		}
		if id, err := identity.IDOf(chain[0]); !slices.Equal(got, tc.want) || id != orders || err != nil {
			t.Errorf("who asks for %s gets %q, which says %v, %v; want %q", tc.asked, got, id, err, tc.want)
		}
	}
}

func TestNamesOfOthersAreRefusedWhateverTheirKind(t *testing.T) {
	for what, r := range map[string]*x509.CertificateRequest{
		`DNS name "cart.shop.mesh"`:         {DNSNames: []string{"orders.shop.mesh", "cart.shop.mesh"}},
		`DNS name "*.shop.mesh"`:            {DNSNames: []string{"*.shop.mesh"}},
		`IP address "10.0.0.1"`:             {IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}},
		`e-mail address "root@example.org"`: {EmailAddresses: []string{"root@example.org"}},
	} {
		parsed, refused := parseCSR(csrFrom(t, r, newKey(t)))
		if refused != nil {
			t.Fatal(refused.err)
		}
		if refused := checkNames(parsed, orders); refused == nil || refused.code != codes.PermissionDenied || !strings.Contains(refused.err.Error(), what) {
			t.Errorf("%s: %v", what, refused)
		}
	}
}

func FuzzCSR(f *testing.F) {
	for _, key := range []crypto.Signer{ecKey(f, elliptic.P256()), rsaKey(f, 2048)} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a"}, IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)}}, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	id := identity.ID{TrustDomain: "m", Cluster: "c", Namespace: "n", ServiceAccount: "s"}
	f.Fuzz(func(t *testing.T, der []byte) {
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
		_, _ = parseCSR(string(der))
		csr, refused := parseCSR(text)
		if (csr == nil) == (refused == nil) {
			t.Fatal("neither or both")
		}
		if csr != nil && checkNames(csr, id) == nil && (len(csr.IPAddresses) > 0 || len(csr.EmailAddresses) > 0) {
			t.Error("somebody else is named")
		}
	})
}
