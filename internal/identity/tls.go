package identity

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

// ServerTLS returns the configuration of a listener: TLS 1.3, a client
// certificate is required and must pass policy, no session tickets. It always
// presents the current certificate and trusts the current roots, so it is made
// once. A client that offers no ALPN is accepted, also when alpn is given
// (QUIC excepted); one that offers others only is not.
func (s *Source) ServerTLS(policy PeerPolicy, alpn ...string) *tls.Config {
	mustPolicy(policy)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: alpn,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.now.Load().tls, nil
		},
		// RequireAndVerify would verify against roots fixed now and by names
		// that SPIFFE does not use; VerifyConnection does all of it.
		ClientAuth:             tls.RequireAnyClientCert,
		VerifyConnection:       s.verifyConnection(policy, x509.ExtKeyUsageClientAuth),
		SessionTicketsDisabled: true,
	}
}

// OpenServerTLS is [Source.ServerTLS] that takes who shows no certificate, too: nobody,
// with an empty list of PeerCertificates. One that is shown must pass policy. For a port
// at which strangers may ask to become somebody.
func (s *Source) OpenServerTLS(policy PeerPolicy, alpn ...string) *tls.Config {
	c := s.ServerTLS(policy, alpn...)
	c.ClientAuth = tls.RequestClientCert
	verify := c.VerifyConnection
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil
		}
		return verify(cs)
	}
	return c
}

// ClientTLS returns the configuration of a dialler: TLS 1.3, SNI serverName
// (may be empty), and the server must pass policy. Who the server is does not
// depend on its DNS names. It always presents the current certificate and
// trusts the current roots, so it may be kept.
func (s *Source) ClientTLS(serverName string, policy PeerPolicy, alpn ...string) *tls.Config {
	mustPolicy(policy)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: alpn,
		ServerName: serverName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			m := s.now.Load()
			return m.tls, s.unusable(m, time.Now()) // before the server refuses it, which says less
		},
		// Turns off the check of DNS names only: VerifyConnection verifies the
		// chain and the SPIFFE ID on every handshake.
		InsecureSkipVerify:     true,
		VerifyConnection:       s.verifyConnection(policy, x509.ExtKeyUsageServerAuth),
		SessionTicketsDisabled: true,
	}
}

// HearingTLS is [Source.ClientTLS] for a connection to a gateway on which bundles come. A
// process that was revoked shows its certificate there nonetheless: it may have been let in
// again, which it can only hear there. Else the gateway refuses it. When its whole cluster
// was revoked it takes such a gateway for the same reason: nothing else may be asked there
// until [Source.Err] returns nil.
func (s *Source) HearingTLS(serverName string, policy PeerPolicy, alpn ...string) *tls.Config {
	c := s.ClientTLS(serverName, policy, alpn...)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		m := s.now.Load()
		return m.tls, s.expired(m, time.Now())
	}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		j := judgement{usage: x509.ExtKeyUsageServerAuth, at: time.Now()}
		if m := s.now.Load(); m.revoked != nil && m.revoked.What == clusterURI(m.id.TrustDomain, m.id.Cluster) {
			j.pardoned = m.revoked.What
		}
		return s.checkPeer(cs, policy, j)
	}
	return c
}

// Trusts returns why the peer of a finished handshake would not pass policy
// now: its certificate has expired since, it was revoked, or its root is trusted no
// more. A root that was retired is still trusted here.
func (s *Source) Trusts(cs tls.ConnectionState, policy PeerPolicy) error {
	mustPolicy(policy)
	return s.checkPeer(cs, policy, judgement{usage: x509.ExtKeyUsageAny, at: time.Now(), open: true})
}

// TrustsRenewed is Trusts for a peer that has shown a newer certificate on
// another connection: that the older one has expired since does not count.
func (s *Source) TrustsRenewed(cs tls.ConnectionState, policy PeerPolicy) error {
	mustPolicy(policy)
	return s.checkPeer(cs, policy, judgement{usage: x509.ExtKeyUsageAny, at: beforeEnd(cs.PeerCertificates), open: true})
}

func (s *Source) verifyConnection(policy PeerPolicy, usage x509.ExtKeyUsage) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		return s.checkPeer(cs, policy, judgement{usage: usage, at: time.Now()})
	}
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

// checkPeer returns why a peer may not play a role.
func (s *Source) checkPeer(cs tls.ConnectionState, policy PeerPolicy, j judgement) error {
	p, err := verify(cs.PeerCertificates, s.now.Load().trust, j)
	if err != nil {
		return err
	}
	return policy(p)
}

// mustPolicy stops a connection without a role from being written.
func mustPolicy(policy PeerPolicy) {
	if policy == nil {
		panic("identity: nil PeerPolicy: say which role the peer plays; AnyMember accepts all")
	}
}
