package identity

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

// Trusts returns why the peer of a finished handshake would not pass policy
// now: its certificate has expired since, it was revoked, or its root is trusted no
// more. A root that was retired is still trusted here.
func (s *TrustStore) Trusts(cs tls.ConnectionState, policy PeerPolicy) error {
	mustPolicy(policy)
	return s.now.Load().check(cs, policy, judgement{usage: x509.ExtKeyUsageAny, at: time.Now(), open: true})
}

// TrustsRenewed is Trusts for a peer that has shown a newer certificate on
// another connection: that the older one has expired since does not count.
func (s *TrustStore) TrustsRenewed(cs tls.ConnectionState, policy PeerPolicy) error {
	mustPolicy(policy)
	return s.now.Load().check(cs, policy, judgement{usage: x509.ExtKeyUsageAny, at: beforeEnd(cs.PeerCertificates), open: true})
}

// Peer returns what the chain of the peer of a finished handshake proves now.
func (s *TrustStore) Peer(cs tls.ConnectionState) (Peer, error) {
	return verify(cs.PeerCertificates, s.now.Load(), judgement{usage: x509.ExtKeyUsageAny, at: time.Now(), open: true})
}

// verifyConnection returns what judges the peer of a handshake.
func (s *TrustStore) verifyConnection(policy PeerPolicy, usage x509.ExtKeyUsage) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		return s.now.Load().check(cs, policy, judgement{usage: usage, at: time.Now()})
	}
}

// verifyHearing is verifyConnection for [Source.HearingTLS].
func (s *TrustStore) verifyHearing(policy PeerPolicy) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		t, j := s.now.Load(), judgement{usage: x509.ExtKeyUsageServerAuth, at: time.Now()}
		if r := t.own.revoked; r != nil && r.What == clusterURI(t.self.TrustDomain, t.self.Cluster) {
			j.pardoned = r.What
		}
		return t.check(cs, policy, j)
	}
}

// check returns why a peer may not play a role.
func (t *trust) check(cs tls.ConnectionState, policy PeerPolicy, j judgement) error {
	p, err := verify(cs.PeerCertificates, t, j)
	if err != nil {
		return err
	}
	return policy(p)
}

// beforeEnd returns this moment or, if that is earlier, the last one at which a chain was valid.
func beforeEnd(chain []*x509.Certificate) time.Time {
	at := time.Now()
	for _, c := range chain {
		if c.NotAfter.Before(at) {
			at = c.NotAfter
		}
	}
	return at
}

// mustPolicy stops a connection without a role from being written.
func mustPolicy(policy PeerPolicy) {
	if policy == nil {
		panic("identity: nil PeerPolicy: say which role the peer plays; AnyMember accepts all")
	}
}
