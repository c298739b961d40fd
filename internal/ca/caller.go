package ca

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// caller is who asks.
type caller struct {
	addr  net.Addr // nil: unknown
	state tls.ConnectionState
	token string // empty: none
}

// callerOf reads what gRPC knows of a call.
func callerOf(ctx context.Context) caller {
	var c caller
	if p, ok := peer.FromContext(ctx); ok {
		c.addr = p.Addr
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			c.state = info.State
		}
	}
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		for _, v := range md.Get("authorization") {
			if scheme, token, ok := strings.Cut(v, " "); ok && strings.EqualFold(scheme, "Bearer") {
				c.token = strings.TrimSpace(token)
			}
		}
	}
	return c
}

// host returns the caller's address without its port, for the audit stream; empty:
// unknown.
func (c caller) host() string {
	if c.addr == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(c.addr.String())
	if err != nil {
		return ""
	}
	return host
}

// proven is whom a caller has proved to be, and how.
type proven struct {
	id    identity.ID
	by    proof
	how   string          // for the log and the audit stream
	pod   identity.Pod    // zero: none is known
	token *identity.Token // of [byToken]
}

// proof is what somebody proves by who it is.
type proof int

const (
	byCertificate proof = iota
	byToken
	byServiceAccount
)

// prove returns whom the caller has proved to be, by its certificate or, when it shows
// none, by a token, which it does not use up.
func (ca *CA) prove(ctx context.Context, c caller, now time.Time) (proven, *refusal) {
	switch {
	case len(c.state.PeerCertificates) > 0:
		return ca.proveByCertificate(ctx, c, now)
	case c.token == "":
		return proven{}, refuse(codes.Unauthenticated, nobody,
			"neither a certificate nor a token: make a token with 'isthmus pki token', and send it as authorization: Bearer")
	case identity.IsToken(c.token):
		return ca.proveByToken(c, now)
	case ca.reviews == nil:
		return proven{}, refuse(codes.Unauthenticated, badToken,
			"token: it is none of 'isthmus pki token', and this CA takes no tokens of service accounts: write kubernetes into its configuration if it is to")
	}
	return ca.reviews.whose(ctx, c.token, now)
}

// proveByCertificate believes a certificate that is trusted, and of a pod, while that is there.
func (ca *CA) proveByCertificate(ctx context.Context, c caller, now time.Time) (proven, *refusal) {
	// Again, since it may have ended or been revoked while the connection was open.
	if err := ca.identity.Trust().Trusts(c.state, ca.members()); err != nil {
		return proven{}, refuse(codes.Unauthenticated, badCertificate, "%w", err)
	}
	id, err := identity.IDOf(c.state.PeerCertificates[0])
	if err != nil {
		return proven{}, refuse(codes.Unauthenticated, badCertificate, "%w", err)
	}
	who := proven{id: id, by: byCertificate, how: "renewed", pod: identity.PodOf(c.state.PeerCertificates[0])}
	switch {
	case who.pod.IsZero():
		return who, nil
	case ca.pods == nil:
		return who, refuse(codes.FailedPrecondition, badCertificate, "the certificate is of pod %s, and this CA asks no API server whether that is still there: ask one that has kubernetes in its configuration", who.pod.Name)
	}
	return who, ca.pods.there(ctx, id, who.pod, now)
}

func (ca *CA) proveByToken(c caller, now time.Time) (proven, *refusal) {
	token, err := identity.ReadToken(c.token)
	if err != nil {
		return proven{}, refuse(codes.Unauthenticated, badToken, "%w", err)
	}
	if token.CA != ca.cfg.Name { // first of all: the client is to try the next CA
		return proven{}, refuse(codes.FailedPrecondition, badToken, "token: it is for the CA %q, this one is %s: ask that one, or make one for this", token.CA, ca.cfg.Name)
	}
	if token, err = ca.authority.Load().VerifyToken(c.token, now); err != nil {
		return proven{}, refuse(codes.Unauthenticated, badToken, "%w", err)
	}
	return proven{id: token.ID, by: byToken, how: "token " + token.Serial, token: &token}, nil
}

// members accepts who may renew here.
func (ca *CA) members() identity.PeerPolicy {
	self := ca.identity.ID()
	return identity.MemberOf(self.TrustDomain, self.Cluster)
}
