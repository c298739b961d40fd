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
		VerifyConnection:       s.trust.verifyConnection(policy, x509.ExtKeyUsageClientAuth),
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
			own := s.now.Load()
			return own.tls, s.unusable(own, time.Now()) // before the server refuses it, which says less
		},
		// Turns off the check of DNS names only: VerifyConnection verifies the
		// chain and the SPIFFE ID on every handshake.
		InsecureSkipVerify:     true,
		VerifyConnection:       s.trust.verifyConnection(policy, x509.ExtKeyUsageServerAuth),
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
		own := s.now.Load()
		return own.tls, s.expired(own, time.Now())
	}
	c.VerifyConnection = s.trust.verifyHearing(policy)
	return c
}
