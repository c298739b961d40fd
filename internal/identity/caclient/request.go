package caclient

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	auth "istio.io/api/security/v1alpha1"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/rpcerr"
)

const (
	askTimeout = 5 * time.Second // of one address, with its handshake
	maxAnswer  = 256 << 10       // bytes: far more than the longest chain and its roots
	maxChain   = 16              // certificates of an answer
)

// enroll becomes what the token says. Of s, the source that is in use, the roots count that
// are trusted by now, and not those of the beginning; nil: there is none yet.
func (c *Client) enroll(ctx context.Context, s *identity.Source) (m identity.Material, err error) {
	p, err := c.proof()
	if err != nil {
		return m, err
	}
	if p.ofKubelet && s != nil {
		p.first.Roots = nil
		for _, r := range s.Trust().Roots() {
			p.first.Roots = append(p.first.Roots, identity.FingerprintOf(r))
		}
	}
	if c.pending == nil {
		if c.pending, err = identity.NewKey(); err != nil {
			return m, err
		}
		if !p.ofKubelet {
			c.save(identity.Material{Key: c.pending}) // before the token is used up for it
		}
	}
	m.Key = c.pending
	m.Chain, m.Roots, err = c.ask(ctx, p.id, m.Key, p.text, p.first.ClientTLS("h2"), p.first.RootsOf)
	if err != nil {
		if f, ok := errors.AsType[faults](err); ok && f.refused() && !p.ofKubelet {
			err = fmt.Errorf("%w; put another token into %s with '%s'", err, c.cfg.TokenFile, c.cfg.Command)
		}
		return m, err
	}
	if err := c.check(m, p); err != nil {
		return m, err
	}
	if p.ofKubelet && c.cfg.IstioName {
		if m, err = c.withIstioName(ctx, m); err != nil {
			return m, err
		}
	}
	c.save(m)
	c.pending = nil
	return m, nil
}

// withIstioName renews a certificate at once: a request names its workload as Istio does,
// and who has a service account's token knows its trust domain by its first certificate only.
func (c *Client) withIstioName(ctx context.Context, m identity.Material) (identity.Material, error) {
	s, err := identity.New(m, identity.Origin{})
	if err != nil {
		return m, err
	}
	return c.renew(ctx, s)
}

// renew gets a certificate for another key by the one that s has; whether it is good is
// for [identity.Source.Replace]. The roots are not changed by it.
func (c *Client) renew(ctx context.Context, s *identity.Source) (m identity.Material, err error) {
	if m.Key, err = identity.NewKey(); err != nil {
		return m, err
	}
	id := s.ID()
	m.Roots = s.Trust().Roots()
	m.Chain, _, err = c.ask(ctx, id, m.Key, "", s.ClientTLS("", identity.CAOf(id.TrustDomain, id.Cluster), "h2"), nil)
	return m, err
}

// check says why an answer is not what was asked for, or not good.
func (c *Client) check(m identity.Material, p proof) error {
	s, err := identity.New(m, identity.Origin{})
	if err != nil {
		return fmt.Errorf("the CA's answer: %w", err)
	}
	if err := p.makes(s.ID()); err != nil {
		return fmt.Errorf("the CA's answer is %w", err)
	}
	if err := c.cfg.Accept(s.ID()); err != nil {
		return fmt.Errorf("the CA's answer: %w", err)
	}
	return nil
}

// ask asks one CA after the other for a certificate of key, beginning with the one that
// answered last. roots picks the roots out of the handshake of the one that issues.
func (c *Client) ask(ctx context.Context, id identity.ID, key crypto.Signer, token string, conf *tls.Config, rootsOf func(tls.ConnectionState) []*x509.Certificate) (chain, roots []*x509.Certificate, err error) {
	csr, err := c.request(id, key)
	if err != nil {
		return nil, nil, err
	}
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	var why faults
	for i := range c.cfg.Addresses {
		at := (c.last + i) % len(c.cfg.Addresses)
		answer, cs, err := c.call(ctx, c.cfg.Addresses[at], csr, conf)
		if err == nil {
			chain, err = parseAnswer(answer)
		}
		if err != nil {
			why = append(why, fault{c.cfg.Addresses[at], err})
			continue
		}
		c.last = at
		if rootsOf != nil {
			roots = rootsOf(cs)
		}
		return chain, roots, nil
	}
	return nil, nil, why
}

// names are those that are asked for; none, as long as the trust domain is not known.
func (c *Client) names(id identity.ID) []string {
	if id.TrustDomain == "" {
		return nil
	}
	names := []string{id.String()}
	if istio := id.IstioName(); c.cfg.IstioName && istio != "" {
		names = append(names, istio)
	}
	return names
}

// request returns a CSR in PEM. The CA knows by the token or the certificate whom it is
// for; the SANs are for CAs that ask for one, and for Istio's name.
func (c *Client) request(id identity.ID, key crypto.Signer) (string, error) {
	var uris []*url.URL
	for _, name := range c.names(id) {
		uri, err := url.Parse(name)
		if err != nil {
			return "", err
		}
		uris = append(uris, uri)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: uris}, key)
	if err != nil {
		return "", fmt.Errorf("certificate request: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// call makes one call on a connection of its own.
func (c *Client) call(ctx context.Context, address, csr string, conf *tls.Config) ([]string, tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cc, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(conf)),
		grpc.WithContextDialer(c.cfg.Dial),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return nil, tls.ConnectionState{}, err
	}
	defer func() { _ = cc.Close() }() // nothing is written on it any more
	var who peer.Peer
	answer, err := auth.NewIstioCertificateServiceClient(cc).CreateCertificate(ctx, &auth.IstioCertificateRequest{Csr: csr}, grpc.Peer(&who))
	if err != nil {
		return nil, tls.ConnectionState{}, err
	}
	info, ok := who.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, tls.ConnectionState{}, errors.New("answered without TLS")
	}
	return answer.CertChain, info.State, nil
}

// parseAnswer returns the leaf and its intermediates. Roots among them are left out.
func parseAnswer(texts []string) (chain []*x509.Certificate, err error) {
	rest := []byte(strings.Join(texts, "\n"))
	for n := 0; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if n == maxChain {
			return nil, fmt.Errorf("the CA's answer has more than %d certificates", maxChain)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the CA's answer: certificate %d: %w", n+1, err)
		}
		if len(chain) > 0 && string(cert.RawIssuer) == string(cert.RawSubject) {
			continue
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, errors.New("the CA's answer holds no certificate")
	}
	return chain, nil
}

// faults are why no CA has issued, in the order in which they were asked.
type faults []fault

type fault struct {
	address string
	err     error
}

func (f faults) Error() string {
	var all []string
	for _, a := range f {
		all = append(all, fmt.Sprintf("CA %s: %s", a.address, rpcerr.Why(a.err)))
	}
	return strings.Join(all, "; ")
}

// refused reports that a CA has understood what it was shown, and does not take it.
func (f faults) refused() bool {
	return slices.ContainsFunc(f, func(a fault) bool {
		code := status.Code(a.err)
		return code == codes.Unauthenticated || code == codes.PermissionDenied
	})
}
