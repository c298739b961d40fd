package identity_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

func TestASignatureNamesItsSigner(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	east, west := m.Gateway("east", "east-1"), m.Gateway("west", "west-1")
	data := []byte(`{"epoch":1}`)
	sig, err := east.Sign(data)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := json.Marshal(sig)
	if err != nil {
		t.Fatal(err)
	}
	var got identity.Signature
	if err := json.Unmarshal(wire, &got); err != nil {
		t.Fatal(err)
	}
	if id, err := west.Trust().Verify(data, got); err != nil || id.ID != east.ID() {
		t.Errorf("%v, %v", id, err)
	}
	_, err = west.Trust().Verify([]byte(`{"epoch":2}`), got)
	wantError(t, "other data", err, "the data is not what was signed with the key of spiffe://mesh.example/cluster/east/gateway/east-1")

	mine, err := west.Sign(data)
	if err != nil {
		t.Fatal(err)
	}
	_, err = west.Trust().Verify(data, identity.Signature{Chain: got.Chain, Sig: mine.Sig})
	wantError(t, "another's name", err, "not what was signed")

	stranger := identitytest.New(t, "mesh.example").Gateway("east", "east-1")
	forged, err := stranger.Sign(data)
	if err != nil {
		t.Fatal(err)
	}
	_, err = west.Trust().Verify(data, forged)
	wantError(t, "another root", err, "not signed by a root")
}

func TestASignatureFromOutsideIsBounded(t *testing.T) {
	s := identitytest.New(t, "mesh.example").Gateway("east", "east-1")
	good, err := s.Sign([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		sig  identity.Signature
		want string
	}{
		{"empty", identity.Signature{}, "sent no certificate"},
		{"garbage", identity.Signature{Chain: [][]byte{{1, 2}}, Sig: good.Sig}, "certificate 0"},
		{"no signature", identity.Signature{Chain: good.Chain}, "not what was signed"},
		{"a long chain", identity.Signature{Chain: make([][]byte, 9), Sig: good.Sig}, "longer than 8"},
		{"a large certificate", identity.Signature{Chain: [][]byte{make([]byte, 20<<10)}, Sig: good.Sig}, "longer than 16384"},
		{"a large signature", identity.Signature{Chain: good.Chain, Sig: make([]byte, 4<<10)}, "longer than 1024"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := s.Trust().Verify([]byte("x"), tc.sig)
			wantError(t, "verify", err, tc.want)
		})
	}
}

func TestASignatureEndsWithItsCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := identitytest.New(t, "mesh.example").Gateway("east", "east-1")
		sig, err := s.Sign([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(identitytest.TTL + time.Second)
		_, err = s.Trust().Verify([]byte("x"), sig)
		wantError(t, "verify", err, "expired at 2000-12-31T00:00:00Z, it is 2000-12-31T00:00:01Z here")
	})
}

// Other issuers hand out other keys.
func TestEveryKindOfKeySigns(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	root := newForger(t)
	for name, key := range map[string]crypto.Signer{"ed25519": ed, "rsa": rs} {
		t.Run(name, func(t *testing.T) {
			tmpl, err := x509.ParseCertificate(root.leaf(east1, nil).Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			cert := signTest(t, tmpl, root.cert, key.Public(), root.key)
			s, err := root.open(tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key})
			if err != nil {
				t.Fatal(err)
			}
			sig, err := s.Sign([]byte("x"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Trust().Verify([]byte("x"), sig); err != nil {
				t.Error(err)
			}
			_, err = s.Trust().Verify([]byte("y"), sig)
			wantError(t, "other data", err, "not what was signed")
		})
	}
}

// The input is an edit of a good signature rather than a signature, because
// every fuzzing process makes a mesh of its own.
func FuzzVerify(f *testing.F) {
	s := identitytest.New(f, "mesh.example").Gateway("east", "east-1")
	data := []byte("some data")
	good, err := s.Sign(data)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(0), uint16(0), []byte{})
	f.Add(uint8(0), uint16(3), []byte("x"))
	f.Add(uint8(1), uint16(2), []byte{0xff, 0xff})
	f.Add(uint8(1), uint16(700), []byte("more"))
	f.Add(uint8(2), uint16(10), []byte{0x30, 0x80})
	f.Add(uint8(3), uint16(0), []byte{0x31})
	f.Fuzz(func(t *testing.T, which uint8, at uint16, with []byte) {
		parts := [][]byte{data, good.Chain[0], good.Chain[1], good.Sig}
		i := int(which) % len(parts)
		parts[i] = splice(parts[i], int(at), with)
		id, err := s.Trust().Verify(parts[0], identity.Signature{Chain: parts[1:3], Sig: parts[3]})
		untouched := bytes.Equal(parts[0], data) && bytes.Equal(parts[1], good.Chain[0])
		if err == nil && (!untouched || id.ID != s.ID()) {
			t.Errorf("accepted %q by %x as %s", parts[0], parts[1], id)
		}
	})
}

// splice returns b with the bytes from at on overwritten.
func splice(b []byte, at int, with []byte) []byte {
	at = min(at, len(b))
	out := append(bytes.Clone(b[:at]), with...)
	if len(out) < len(b) {
		out = append(out, b[len(out):]...)
	}
	return out
}
