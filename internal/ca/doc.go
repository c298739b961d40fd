// Package ca is the process that issues a cluster's certificates, `isthmus ca`: the only
// one that holds the key of the cluster's intermediate.
//
// # What it speaks
//
// Istio's istio.v1.auth.IstioCertificateService/CreateCertificate, gRPC over TLS 1.3:
//
//	csr                PEM of a PKCS #10 request (RFC 2986): its key is certified, and the
//	                   signature proves that the caller has it
//	validity_duration  seconds; 0 is the CA's ttl, which is also the most
//	metadata           not looked at, but ImpersonatedIdentity is refused
//
// The answer is the leaf, the intermediate and the roots, each a PEM; the last one is the
// root that signed the intermediate. Everything that a certificate says beside its key is
// the CA's word: who asks is who the connection or the token proves, never what the
// request says. A request may name the same identity, as the URI
// spiffe://TD/cluster/C/ns/NS/sa/SA or as Istio writes it, spiffe://TD/ns/NS/sa/SA; one
// that names anybody else is refused rather than corrected.
//
// # Who it is
//
// Its own certificate is spiffe://TD/cluster/CLUSTER/ca/NAME, signed by the intermediate,
// with the roots behind it in every handshake. Who asks for a certificate requires that
// name ([identity.CAOf]): otherwise any workload of the cluster could play the CA. A CA
// issues such a name to nobody but itself.
//
// # Who asks
//
// Renewal: the caller shows a certificate of this cluster that is valid, not revoked, and
// judged again at every call; it gets one for the same identity.
//
// First contact: the caller shows no certificate and a token ([identity.Token]) as
// `authorization: Bearer …`. A token is made without the CA, by `isthmus pki token`
// where the intermediate's key is. It is for one identity, ends soon, and names the one
// CA process that takes it. That one binds it to the first key that it is shown with,
// on disk before it issues: another key is refused for ever, the same key gets a
// certificate again, so that an answer which is lost costs nothing.
//
// Or the token of a Kubernetes service account (RFC 7519), with the configured audience: the
// API server says whose it is (TokenReview, authentication.k8s.io/v1), at every use.
// A pod becomes ns/NAMESPACE/sa/ACCOUNT; one of the gateways' account the gateway of its own name.
// What that token proves: its bearer has read it within its life, which the kubelet bounds,
// and its pod and account are still there. It may be shown again, to each CA of the
// cluster, and makes the same identity each time; so clients show it to nobody else. A token for
// another audience or of another cluster is none here. The certificate says which pod it was issued
// to (name and UID, in its subject's serial number), and so does each that replaces it. It
// is renewed while the API server has that pod, so that a key which was stolen from one does not outlive
// it for longer than a certificate's life. While the API server is away a pod counts as there, for a day at most
// ([mayBeAway]). A token that is bound to no pod makes a certificate that is renewed as those of other machines are.
//
// # Two of them
//
// The CAs of a cluster know nothing of each other. Each has its own state, and an
// intermediate of its own or a copy of the same; clients try one after the other.
// A one-time token is used once because only one of them takes it; while that one is down it
// cannot be used, and another has to be made. Renewals go to either.
//
// # Revocation
//
// Nobody gets a certificate that the mesh would not accept: who is revoked, by identity,
// cluster or key, neither renews nor uses a token. The CA hears of it from the gateways that it is told to follow,
// as sidecars do (package internal/trust), at its admin port ('isthmus pki push --admin'),
// or by bundle.json beside the intermediate. One that was not told certifies a revoked
// identity in vain, since nobody accepts it; but who was revoked by its key alone gets
// another key from it.
//
// # Not promised
//
// Who removes the state directory makes the tokens of the last minutes good once more. A
// state file that is damaged does not: then every token made before that was noticed
// is refused. Limits on how often somebody may ask are each process's own.
package ca
