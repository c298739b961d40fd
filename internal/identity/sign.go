package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// signContext goes before the data, so that no signature made here can be taken
// for one of TLS (RFC 8446, section 4.4.3) or of a certificate, nor theirs for
// one of ours.
const signContext = "isthmus signature 1\x00"

// Signature proves who wrote some data, to somebody who got it from a third.
type Signature struct {
	Chain [][]byte `json:"chain"` // DER: the signer's leaf, then its intermediates
	Sig   []byte   `json:"sig"`
}

// Chain returns what a signature that is made now carries, in DER: it is another one once
// the certificate was replaced. It is shared and must not be changed.
func (s *Source) Chain() [][]byte { return s.now.Load().tls.Certificate }

// Sign signs data with the current certificate's key. The chain of the result
// is shared and must not be changed.
func (s *Source) Sign(data []byte) (Signature, error) {
	own := s.now.Load()
	digest, opts := prepare(own.key.Public(), data)
	if opts == nil {
		return Signature{}, fmt.Errorf("sign as %s: key type %T is not supported, use ECDSA P-256", own.id(), own.key.Public())
	}
	sig, err := own.key.Sign(rand.Reader, digest, opts)
	if err != nil {
		return Signature{}, fmt.Errorf("sign as %s: %w", own.id(), err)
	}
	return Signature{Chain: own.tls.Certificate, Sig: sig}, nil
}

// Verify returns what the signer of data is proved to be. The signer's certificate is checked as that
// of a TLS peer is, at this moment; which role it must have is the caller's to
// say. sig may come from anybody.
func (s *TrustStore) Verify(data []byte, sig Signature) (Peer, error) {
	chain, err := sig.parse()
	if err != nil {
		return Peer{}, fmt.Errorf("signature: %w", err)
	}
	peer, err := verify(chain, s.now.Load(), judgement{usage: x509.ExtKeyUsageAny, at: time.Now()})
	if err != nil {
		return Peer{}, fmt.Errorf("signature: %w", err)
	}
	if !valid(chain[0].PublicKey, data, sig.Sig) {
		return Peer{}, fmt.Errorf("signature: %w of %s", errBadSignature, peer.ID)
	}
	return peer, nil
}

// TrustsSigner returns why the signer of what was verified before is trusted no more. That
// its certificate has expired since does not count.
func (s *TrustStore) TrustsSigner(sig Signature) error {
	chain, err := sig.parse()
	if err == nil {
		_, err = verify(chain, s.now.Load(), judgement{usage: x509.ExtKeyUsageAny, at: beforeEnd(chain), open: true})
	}
	return err
}

// parse reads the chain of a signature within bounds.
func (sig Signature) parse() ([]*x509.Certificate, error) {
	if len(sig.Chain) > maxChain {
		return nil, fmt.Errorf("chain of %d certificates is longer than %d", len(sig.Chain), maxChain)
	}
	if len(sig.Sig) > maxSignature {
		return nil, fmt.Errorf("%d bytes are longer than %d", len(sig.Sig), maxSignature)
	}
	chain := make([]*x509.Certificate, len(sig.Chain))
	for i, der := range sig.Chain {
		if len(der) > maxCertificate {
			return nil, fmt.Errorf("certificate of %d bytes is longer than %d", len(der), maxCertificate)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
		chain[i] = c
	}
	return chain, nil
}

var errBadSignature = errors.New("the data is not what was signed with the key")

// prepare returns what the key signs for data; opts is nil for a key type that
// is not supported.
func prepare(key crypto.PublicKey, data []byte) (digest []byte, opts crypto.SignerOpts) {
	if _, ok := key.(ed25519.PublicKey); ok {
		return append([]byte(signContext), data...), crypto.Hash(0)
	}
	h := crypto.SHA256.New()
	h.Write([]byte(signContext))
	h.Write(data)
	switch key.(type) {
	case *ecdsa.PublicKey:
		return h.Sum(nil), crypto.SHA256
	case *rsa.PublicKey:
		return h.Sum(nil), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	return nil, nil
}

func valid(key crypto.PublicKey, data, sig []byte) bool {
	digest, opts := prepare(key, data)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPSS(k, crypto.SHA256, digest, sig, opts.(*rsa.PSSOptions)) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(k, digest, sig)
	}
	return false
}
