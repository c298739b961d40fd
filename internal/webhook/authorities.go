package webhook

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// authorities are those of the webhook's certificates, the oldest first. They are public to
// the API server by its caBundle and shared by the replicas by a Secret. The slice is
// replaced, never changed.
type authorities []authority

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// The blocks of the PEM that authorities are kept as: each a certificate, then its key.
const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
)

// parseAuthorities reads what [authorities.encode] wrote.
func parseAuthorities(text []byte) (authorities, error) {
	var all authorities
	for len(bytes.TrimSpace(text)) > 0 {
		if len(all) == maxAuthorities {
			return nil, fmt.Errorf("has more than %d authorities", maxAuthorities)
		}
		c, rest := pem.Decode(text)
		k, after := pem.Decode(rest)
		if c == nil || k == nil || c.Type != certificateBlock || k.Type != keyBlock {
			return nil, errors.New("is no list of certificates with their keys")
		}
		cert, err := x509.ParseCertificate(c.Bytes)
		if err != nil {
			return nil, err
		}
		key, err := x509.ParsePKCS8PrivateKey(k.Bytes)
		if err != nil {
			return nil, err
		}
		signer, ok := key.(*ecdsa.PrivateKey)
		if !ok || !cert.IsCA || !signer.PublicKey.Equal(cert.PublicKey) {
			return nil, errors.New("has a key that is not its certificate's")
		}
		all = append(all, authority{cert, signer})
		text = after
	}
	return all, nil
}

// encode returns what is kept in the Secret.
func (a authorities) encode() ([]byte, error) {
	var out bytes.Buffer
	for _, one := range a {
		key, err := x509.MarshalPKCS8PrivateKey(one.key)
		if err != nil {
			return nil, err
		}
		// A buffer takes everything.
		_ = pem.Encode(&out, &pem.Block{Type: certificateBlock, Bytes: one.cert.Raw})
		_ = pem.Encode(&out, &pem.Block{Type: keyBlock, Bytes: key})
	}
	return out.Bytes(), nil
}

// bundle returns the certificates, as a caBundle has them.
func (a authorities) bundle() []byte {
	var out bytes.Buffer
	for _, one := range a {
		_ = pem.Encode(&out, &pem.Block{Type: certificateBlock, Bytes: one.cert.Raw})
	}
	return out.Bytes()
}

// renewed returns the authorities as they are to be at now: without those that have ended,
// with another one once the newest has lived half of its life. It says whether that is
// a change.
func (a authorities) renewed(now time.Time) (authorities, bool, error) {
	var next authorities
	for _, one := range a {
		if now.Before(one.cert.NotAfter) {
			next = append(next, one)
		}
	}
	if len(next) > 0 && now.Before(halfLife(next[len(next)-1].cert)) {
		return next, len(next) != len(a), nil
	}
	one, err := newAuthority(now)
	if err != nil {
		return nil, false, err
	}
	return append(next, one), true, nil
}

// signer returns the one that signs at now: the newest that API servers have had time to
// learn of, or the oldest where there is none. There is at least one.
func (a authorities) signer(now time.Time) authority {
	for i := len(a) - 1; i > 0; i-- {
		if now.After(a[i].cert.NotBefore.Add(backdate + overlap)) {
			return a[i]
		}
	}
	return a[0]
}

func halfLife(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 2)
}

func newAuthority(now time.Time) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: "isthmus webhook, since " + now.UTC().Format(time.DateOnly)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(raw)
	return authority{cert, key}, err
}

// issue makes a certificate for a server of these names.
func (a authority) issue(names []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: names[0]},
		DNSNames:     names,
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if a.cert.NotAfter.Before(template.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(raw)
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}, err
}

// signed reports whether a certificate is of this authority.
func (a authority) signed(c *x509.Certificate) bool { return c.CheckSignatureFrom(a.cert) == nil }

func newSerial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f // positive
	return new(big.Int).SetBytes(b[:])
}
