// Package caclient is the origin of identities that a cluster's CA issues, `isthmus ca`:
// by Istio's CreateCertificate (istio.v1.auth.IstioCertificateService), over mutual TLS.
//
//	process                                             isthmus ca
//	  │ makes a key, and keeps it
//	  │── TLS, no certificate ─────────────────────────────▶│ shows its chain, root included
//	  │   is its root in the token, is it the CA?           │
//	  │── CreateCertificate{CSR}, Bearer TOKEN ────────────▶│ the token is used up
//	  │◀──────────────────────── [leaf, intermediate, root]─│
//	  │      … half of the certificate's life …
//	  │ makes another key
//	  │── mutual TLS ──────────────────────────────────────▶│
//	  │── CreateCertificate{CSR} ──────────────────────────▶│ for whom the certificate says
//	  │◀──────────────────────── [leaf, intermediate, root]─│
//
// A key never leaves the process but for one file of its state directory, which only its
// owner can read. That file is written before the CA is asked for the first time: a CA
// takes a token again from the same key, so that an answer that was lost, or a crash, costs
// nothing. A process that starts with a valid certificate on disk needs neither token nor
// CA. One whose certificate has expired needs a new token: nothing else proves who it is.
//
// In Kubernetes the token is that of the pod's service account, which the kubelet writes
// into a projected volume and replaces before it ends: it is read at each use, and shown whenever
// the certificate is not taken. It does not name roots, so that fingerprints and the
// cluster are configured; only a CA of that cluster is shown the token, since whoever has it is
// the pod to every CA of the cluster.
//
// Roots are those of the token. What the CA sends as root later is not believed: roots
// change by the mesh's own bundles.
package caclient
