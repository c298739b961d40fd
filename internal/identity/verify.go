package identity

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

var errNoCertificate = errors.New("the peer sent no certificate: every connection of the mesh is mutual TLS")

// judgement says for what a certificate is verified.
type judgement struct {
	usage x509.ExtKeyUsage
	at    time.Time
	open  bool // for a connection that is open, or data that was taken, not for a new one

	pardoned string // an entry of the revocation list that does not count; empty: all do
}

// verify returns what the leaf chain[0] proves, when that is true by trust. The other
// certificates of chain are the intermediates that the peer sent along.
func verify(chain []*x509.Certificate, trust *trust, j judgement) (Peer, error) {
	if len(chain) == 0 {
		return Peer{}, errNoCertificate
	}
	if len(chain) > maxChain {
		return Peer{}, fmt.Errorf("chain of %d certificates is longer than %d", len(chain), maxChain)
	}
	leaf := chain[0]
	id, err := IDOf(leaf)
	if err != nil {
		return Peer{}, err
	}
	domain, err := trust.of(id)
	if err != nil {
		return Peer{}, err
	}
	intermediates := x509.NewCertPool()
	for i, c := range chain {
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSABits {
			return Peer{}, fmt.Errorf("certificate %s has an RSA key of %d bits, at most %d are accepted", subject(c), k.N.BitLen(), maxRSABits)
		}
		if i > 0 {
			intermediates.AddCert(c)
		}
	}
	verified, err := leaf.Verify(x509.VerifyOptions{
		Roots:         domain.pool(chain, j.open),
		Intermediates: intermediates,
		CurrentTime:   j.at,
		KeyUsages:     []x509.ExtKeyUsage{j.usage},
	})
	if err != nil {
		return Peer{}, fmt.Errorf("certificate of %s: %w", id, explain(err, id.TrustDomain, leaf, j.at))
	}
	for _, c := range verified {
		var p Peer
		if p, err = peerOf(c, id); err == nil {
			err = trust.revokes(c, id, j.pardoned)
		}
		if err == nil {
			return p, nil
		}
	}
	return Peer{}, err
}

// explain turns what x509 says into what an operator can act on.
func explain(err error, td string, leaf *x509.Certificate, now time.Time) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		if bad := checkTime(invalid.Cert, now); bad != nil {
			if invalid.Cert != leaf {
				return fmt.Errorf("CA %s: %w", subject(invalid.Cert), bad)
			}
			return bad
		}
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fmt.Errorf("not signed by a root of trust domain %s that this process knows (issuer %q): both sides need the same root in roots.pem: %w",
			td, leaf.Issuer, err)
	}
	return err
}

// checkTime returns an error when cert is not valid at time now. Which of the
// two clocks is wrong cannot be known here, so both times are named.
func checkTime(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(cert.NotBefore):
		return fmt.Errorf("not valid before %s, it is %s here: check the clock", stamp(cert.NotBefore), stamp(now))
	case now.After(cert.NotAfter):
		return fmt.Errorf("expired at %s, it is %s here: issue a new one, or check the clock", stamp(cert.NotAfter), stamp(now))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
