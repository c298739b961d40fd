// Package identity says who a process of the mesh is and proves who its peers
// are: SPIFFE X.509 certificates, the tls.Configs made of them, signatures over
// data that travels through others, and the authority that issues them.
//
// # Names
//
//	spiffe://<trust domain>/cluster/<cluster>/gateway/<name>                a gateway
//	spiffe://<trust domain>/cluster/<cluster>/ns/<namespace>/sa/<account>   a workload
//	spiffe://<trust domain>/cluster/<cluster>/ca/<name>                     a process that issues the cluster's certificates
//
// # Certificates
//
//	root          URI spiffe://<trust domain>                    CA, in everybody's roots.pem
//	└ cluster     URI spiffe://<trust domain>/cluster/<cluster>  CA, path length 0
//	  │           URI …/cluster/<cluster>/ns/<namespace>         each namespace that it may offer; none: any
//	  └ leaf      one URI, from the list above                   not a CA
//
// A workload's leaf may carry spiffe://<trust domain>/ns/<namespace>/sa/<account> in front of
// that, as Istio names it: a ztunnel knows no other form. It is the same workload, and the
// name says nothing here. SPIFFE wants one URI SAN, so it is there only on demand.
//
// A leaf is accepted when it has exactly one URI SAN that reads as one of the
// names above, is no CA, belongs to our own trust domain, chains to one of our
// roots now, and every CA of that chain which names a cluster names the leaf's:
// the intermediate of west cannot speak for east. Namespaces say whose services the
// cluster may offer to others ([Peer.MayOffer]); they confine whom it answers for, not whom its
// workloads call. What remains, the role that
// the peer plays on this connection, is a [PeerPolicy] that every tls.Config needs.
//
// # Files
//
// A [Source] reads three PEM files from one directory and follows their changes:
//
//	cert.pem    the leaf, then its intermediates
//	key.pem     the leaf's private key (PKCS #8, SEC 1 or PKCS #1)
//	roots.pem   every root that is trusted; two during a rotation
//
// and, where there is one, bundle.json.
//
// # Bundles
//
// A [Bundle] says what is trusted beside roots.pem: the roots of a trust domain, those that
// are retired, and what is revoked. It is numbered, the highest is in force, and it
// is taken from anybody when a root signed it that is trusted already:
//
//	{"bundle":"base64 of the payload","signatures":[{"key":"SubjectPublicKeyInfo","sig":"…"}]}
//	payload {"trust_domain":"mesh.example","number":3,"made":"…","roots":["DER"],"retired":["DER"],
//	         "revoked":[{"what":"spiffe://…, or sha256:HEX of a key","at":"…"}]}
//
// A chain must end at a root of roots.pem or of the bundle that is neither retired nor
// revoked; for a connection that is open already, a retired root is good enough. What is
// revoked is good for nothing: a leaf by its SPIFFE ID, a cluster with everything in it, a
// key with everything that it signed.
//
// # Other trust domains
//
// A [Domain] is another trust domain whose members are taken in, each judged by that
// one's roots and bundle only. It says which clusters are its own: what is known by a
// cluster's name, such as a gateway, is then never somebody else's. Gateways send their root
// along, so that its fingerprint is enough to begin with.
//
// # TLS
//
// TLS is 1.3 only, the peer's certificate is checked on every handshake, and no
// session is resumed: a ticket would outlive what it was granted for. Who keeps
// connections for long judges them again: [TrustStore.Past], [TrustStore.Trusts], and
// [TrustStore.TrustsRenewed] for a peer that has renewed its certificate in time.
//
// What a source holds comes from an [Origin], which replaces it before it expires: the
// files above, or whatever calls [New] and [Source.Replace].
//
// A process whose own certificate has expired is accepted by nobody. Peers can
// tell it so by a TLS alert only, so its dials fail with an [ExpiredError], the
// log says it, and so does [Source.Err].
package identity
