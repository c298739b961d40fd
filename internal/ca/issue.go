package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	securityv1 "istio.io/api/security/v1alpha1"

	"github.com/isthmus-mesh/isthmus/internal/audit"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/limit"
)

// service is Istio's certificate service.
type service struct {
	securityv1.UnimplementedIstioCertificateServiceServer
	ca *CA
}

// CreateCertificate answers one call.
func (s service) CreateCertificate(ctx context.Context, r *securityv1.IstioCertificateRequest) (*securityv1.IstioCertificateResponse, error) {
	c := callerOf(ctx)
	who, chain, refused := s.ca.answer(ctx, c, r, time.Now())
	if refused != nil {
		s.ca.tellRefused(c, who, refused)
		return nil, refused.status()
	}
	s.ca.tellIssued(c, who, chain[0])
	answer := &securityv1.IstioCertificateResponse{}
	for _, cert := range chain {
		answer.CertChain = append(answer.CertChain, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})))
	}
	return answer, nil
}

// answer returns who asks, as far as that is proved, and its new certificate: the leaf
// first, the root last.
func (ca *CA) answer(ctx context.Context, c caller, r *securityv1.IstioCertificateRequest, now time.Time) (who proven, chain []*x509.Certificate, refused *refusal) {
	if !ca.sources.Allow(limit.SourceOf(c.addr), now) {
		return who, nil, refuse(codes.ResourceExhausted, tooOften, "your address asks too often: wait a second")
	}
	if who, refused = ca.prove(ctx, c, now); refused != nil {
		return who, nil, refused
	}
	if _, asked := r.GetMetadata().GetFields()["ImpersonatedIdentity"]; asked {
		return who, nil, refuse(codes.PermissionDenied, otherName, "metadata ImpersonatedIdentity: nobody gets the certificate of another here")
	}
	csr, refused := parseCSR(r.GetCsr())
	if refused != nil {
		return who, nil, refused
	}
	if refused := checkNames(csr, who.id); refused != nil {
		return who, nil, refused
	}
	ttl, refused := ca.lifetime(r.GetValidityDuration())
	if refused != nil {
		return who, nil, refused
	}
	if !ca.identities.Allow(who.id, now) {
		return who, nil, refuse(codes.ResourceExhausted, tooOften, "%s asks too often: wait a second", who.id)
	}
	if who.token != nil {
		// On disk before anything is issued: whatever happens then, it stays used.
		if err := ca.used.claim(who.token, csr.RawSubjectPublicKeyInfo); errors.Is(err, errTokenUsed) {
			return who, nil, refuse(codes.Unauthenticated, usedToken, "%w", err)
		} else if err != nil {
			return who, nil, refuse(codes.Unavailable, unable, "%w: ask another CA", err)
		}
	}
	chain, refused = ca.certify(who, csr, ttl, now)
	return who, chain, refused
}

// lifetime returns how long a certificate is valid for which so many seconds are asked.
func (ca *CA) lifetime(seconds int64) (time.Duration, *refusal) {
	most := ca.inForce.Load().TTL
	switch {
	case seconds < 0:
		return 0, refuse(codes.InvalidArgument, badCSR, "validity_duration of %d seconds: write 1 or more, or 0 for as long as it is given", seconds)
	case seconds == 0 || seconds > int64(most/time.Second):
		return most, nil
	}
	return time.Duration(seconds) * time.Second, nil
}

// certify makes the certificate.
func (ca *CA) certify(who proven, csr *x509.CertificateRequest, ttl time.Duration, now time.Time) ([]*x509.Certificate, *refusal) {
	authority, id := ca.authority.Load(), who.id
	back := min(backdate, ttl/backdatePart)
	chain, err := authority.Certify(identity.Request{ID: id, Pod: who.pod, DNSNames: hostNames(id), Istio: asksForIstioName(csr, id), NotBefore: now.Add(-back), TTL: back + ttl}, csr.PublicKey)
	if err != nil {
		return nil, refuse(codes.Unavailable, unable, "%w: ask another CA", err)
	}
	// As its peers will judge it: nobody who was revoked gets a new one.
	if err := ca.identity.Trust().Trusts(tls.ConnectionState{PeerCertificates: chain}, ca.members()); err != nil {
		return nil, refuse(codes.PermissionDenied, badCertificate, "nobody would accept it: %w", err)
	}
	return append(chain, authority.Roots()...), nil
}

// tellIssued says that somebody got a certificate.
func (ca *CA) tellIssued(c caller, who proven, leaf *x509.Certificate) {
	level := ca.log.Debug
	if who.by != byCertificate {
		level = ca.log.Info
	}
	ca.metrics.issued[who.by].Inc()
	level("certificate issued", "peer_id", who.id.String(), "peer_addr", c.host(), "by", who.how, "serial", leaf.SerialNumber.Text(16), "not_after", leaf.NotAfter)
	ca.audit.Add(audit.Event{
		Kind: audit.Certificate, Decision: audit.Granted, Who: who.id.String(), From: c.host(),
		What: "serial " + leaf.SerialNumber.Text(16) + " until " + leaf.NotAfter.UTC().Format(time.RFC3339), Why: who.how,
	})
}

// tellRefused says that somebody got none.
func (ca *CA) tellRefused(c caller, who proven, r *refusal) {
	ca.metrics.refused[r.reason].Inc()
	level, peer := ca.log.Warn, ""
	if who.id == (identity.ID{}) {
		level = ca.log.Debug // a stranger may ask as often as it likes
	} else {
		peer = who.id.String()
	}
	err := r.err
	if r.untold != nil {
		level, err = ca.log.Warn, fmt.Errorf("%w: %w", err, r.untold)
	}
	level("certificate refused", "peer_id", peer, "peer_addr", c.host(), "reason", string(r.reason), "err", err)
	ca.audit.Add(audit.Event{Kind: audit.Certificate, Decision: audit.Refused, Who: peer, From: c.host(), Why: r.err.Error()})
}
