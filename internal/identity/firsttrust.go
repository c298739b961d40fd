package identity

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// FirstTrust is what a process trusts before it has a certificate: the CAs of one cluster,
// under roots of which it knows the fingerprints. The cluster is part of it: another
// cluster's CA is under the same root, and could otherwise take what is shown to a CA.
type FirstTrust struct {
	TrustDomain string // empty: whichever the root speaks for
	Cluster     mesh.ClusterName
	Roots       []Fingerprint
}

// NewFirstTrust makes the trust in the CAs of a cluster, by the fingerprints of roots or, when
// there are none, by a PEM file of roots, which it reads.
func NewFirstTrust(cluster mesh.ClusterName, fingerprints []string, rootsFile string) (FirstTrust, error) {
	f := FirstTrust{Cluster: cluster}
	for _, text := range fingerprints {
		print, err := ParseFingerprint(text)
		if err != nil {
			return f, err
		}
		f.Roots = append(f.Roots, print)
	}
	if len(f.Roots) > 0 {
		return f, nil
	}
	var err error
	f.Roots, err = ReadFingerprints(rootsFile)
	return f, err
}

// ClientTLS returns the configuration for a connection to the CA: nobody is trusted but a
// CA of the cluster whose chain, as it sends it, ends in one of the roots. Nothing is
// shown to it.
func (f FirstTrust) ClientTLS(alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: alpn,
		// Turns off the check of DNS names only, as in Source.ClientTLS.
		InsecureSkipVerify:     true,
		VerifyConnection:       f.verify,
		SessionTicketsDisabled: true,
	}
}

func (f FirstTrust) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return errNoCertificate
	}
	id, err := IDOf(cs.PeerCertificates[0])
	if err != nil {
		return err
	}
	roots := f.RootsOf(cs)
	if len(roots) == 0 {
		return errors.New("the CA is under none of the roots whose fingerprints are trusted at first: compare them with 'isthmus pki fingerprint roots.pem'")
	}
	td := cmp.Or(f.TrustDomain, id.TrustDomain) // the root says below whether it speaks for that
	peer, err := verify(cs.PeerCertificates, newTrust(ID{TrustDomain: td}, roots, nil, nil), judgement{usage: x509.ExtKeyUsageServerAuth, at: time.Now()})
	if err != nil {
		return err
	}
	return CAOf(td, f.Cluster)(peer)
}

// RootsOf returns those of the certificates that the peer has sent which are the roots.
func (f FirstTrust) RootsOf(cs tls.ConnectionState) (roots []*x509.Certificate) {
	for _, c := range cs.PeerCertificates {
		if slices.Contains(f.Roots, FingerprintOf(c)) {
			roots = append(roots, c)
		}
	}
	return roots
}
