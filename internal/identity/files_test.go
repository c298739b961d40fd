package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

func TestAnIdentityDirectoryIsCheckedWhole(t *testing.T) {
	root := newForger(t)
	east := root.under("spiffe://mesh.example/cluster/east")
	good := east.dir(east.leaf(east1, nil))
	read := func(dir, name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	other := east.dir(east.leaf(east1, nil))
	stranger := newForger(t)
	for _, tc := range []struct {
		name  string
		files map[string][]byte // instead of the good ones; nil: none
		want  []string
	}{
		{"good", nil, nil},
		{"nothing there", map[string][]byte{"cert.pem": nil, "key.pem": nil, "roots.pem": nil}, []string{"cert.pem: no such file", "key.pem: no such file", "roots.pem: no such file", "isthmus pki gateway"}},
		{"garbage everywhere", map[string][]byte{"cert.pem": []byte("x"), "key.pem": []byte("y"), "roots.pem": {}}, []string{"cert.pem: holds no PEM certificate", "key.pem: holds no PEM private key", "roots.pem: holds no PEM certificate"}},
		{"key where the certificate should be", map[string][]byte{"cert.pem": read(good, "key.pem")}, []string{"cert.pem: holds a PRIVATE KEY, expected CERTIFICATE"}},
		{"certificate where the key should be", map[string][]byte{"key.pem": read(good, "cert.pem")}, []string{"key.pem: holds a CERTIFICATE, expected a PRIVATE KEY"}},
		{"a broken certificate", map[string][]byte{"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})}, []string{"cert.pem: certificate 1:"}},
		{"an encrypted key", map[string][]byte{"key.pem": pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})}, []string{"key.pem: the key is encrypted"}},
		{"another's key", map[string][]byte{"key.pem": read(other, "key.pem")}, []string{"cert.pem: the key is not that of certificate " + east1}},
		{"another's roots", map[string][]byte{"roots.pem": read(stranger.dir(stranger.leaf(east1, nil)), "roots.pem")}, []string{"not signed by a root of trust domain mesh.example"}},
		{"too large", map[string][]byte{"roots.pem": bytes.Repeat([]byte("a"), 2<<20)}, []string{"roots.pem: larger than 1048576 bytes"}},
		{"expired", map[string][]byte{"*": nil}, []string{"cert.pem: certificate of " + east1 + ": expired at", "check the clock"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			from := good
			if _, ok := tc.files["*"]; ok {
				from = east.dir(east.leaf(east1, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
			}
			for _, name := range []string{"cert.pem", "key.pem", "roots.pem"} {
				data, ok := tc.files[name]
				if !ok {
					data = read(from, name)
				}
				if data != nil {
					write(t, dir, name, data)
				}
			}
			_, err := identity.Open(dir)
			if len(tc.want) == 0 {
				wantError(t, "open", err, "")
			}
			for _, want := range tc.want {
				wantError(t, "open", err, want)
			}
		})
	}
	_, err := identity.Open("")
	wantError(t, "no directory", err, "set identity: {dir: …}")
}

func TestTheKeyFormatsOfOpenSSLAreRead(t *testing.T) {
	root := newForger(t)
	leaf := root.leaf(east1, nil)
	dir := root.dir(leaf)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "key.pem", append(
		pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8}}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})...))
	if _, err := identity.Open(dir); err != nil {
		t.Error(err)
	}
}

func TestBothRootsAreTrustedDuringARotation(t *testing.T) {
	old, next := newForger(t), newForger(t)
	before, err := old.open(old.leaf(west1, nil))
	if err != nil {
		t.Fatal(err)
	}
	dir := next.dir(next.leaf(east1, nil))
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: old.root.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: next.root.Raw})...)
	write(t, dir, "roots.pem", both)
	after, err := identity.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*identity.Source{"old": before, "new": after} {
		sig, err := s.Sign([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if id, err := after.Trust().Verify([]byte("x"), sig); err != nil || id.ID != s.ID() {
			t.Errorf("%s root: %v, %v", name, id, err)
		}
	}
}

func TestTheExpiryIsAMetric(t *testing.T) {
	s := identitytest.New(t, "mesh.example").Gateway("east", "east-1")
	if err := s.Register(nil); err != nil {
		t.Error(err)
	}
	reg := prometheus.NewPedanticRegistry()
	if err := s.Register(reg); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "isthmus_identity_expiry_timestamp_seconds" && f.Metric[0].GetGauge().GetValue() == float64(s.NotAfter().Unix()) {
			return
		}
	}
	t.Errorf("not found in %v", families)
}
