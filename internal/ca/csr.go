package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// parseCSR reads a PEM certificate request and checks that who made it has its key. The
// text may come from anybody.
func parseCSR(text string) (*x509.CertificateRequest, *refusal) {
	bad := func(format string, args ...any) (*x509.CertificateRequest, *refusal) {
		return nil, refuse(codes.InvalidArgument, badCSR, "csr: "+format, args...)
	}
	if len(text) > maxCSR {
		return bad("%d bytes are more than %d", len(text), maxCSR)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return bad("holds no PEM certificate request (-----BEGIN CERTIFICATE REQUEST-----)")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return bad("holds more than one certificate request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return bad("%w", err)
	}
	if err := checkKey(csr.PublicKey); err != nil { // before its signature, which costs what the key is large
		return bad("%w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return bad("it is not signed with its own key: %w", err)
	}
	return csr, nil
}

// checkKey returns why a key is not certified.
func checkKey(key crypto.PublicKey) error {
	const write = "use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits"
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
		return fmt.Errorf("an ECDSA key on curve %s: %s", k.Curve.Params().Name, write)
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits: %s", bits, write)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("a %T: %s", key, write)
}

// checkNames refuses a request that names anybody but id.
func checkNames(csr *x509.CertificateRequest, id identity.ID) *refusal {
	other := func(what string, name any) *refusal {
		return refuse(codes.PermissionDenied, otherName, "csr: it names %s %q, but who asks is %s: leave it out, or ask as that one", what, fmt.Sprint(name), id)
	}
	for _, u := range csr.URIs {
		if s := u.String(); s != id.String() && s != id.IstioName() {
			return other("URI", s)
		}
	}
	own := hostNames(id)
	for _, name := range csr.DNSNames {
		if !slices.Contains(own, name) {
			return other("DNS name", name)
		}
	}
	if len(csr.IPAddresses) > 0 {
		return other("IP address", csr.IPAddresses[0])
	}
	if len(csr.EmailAddresses) > 0 {
		return other("e-mail address", csr.EmailAddresses[0])
	}
	return nil
}

// asksForIstioName reports whether a request that passed checkNames names its workload as
// Istio does.
func asksForIstioName(csr *x509.CertificateRequest, id identity.ID) bool {
	return slices.ContainsFunc(csr.URIs, func(u *url.URL) bool { return u.String() == id.IstioName() })
}

// hostNames returns the host names of the service that a workload's service account is
// named after, for programs that check one. Others have none.
func hostNames(id identity.ID) []string {
	svc, err := mesh.ParseServiceName(id.Namespace + "/" + id.ServiceAccount)
	if !id.IsWorkload() || err != nil {
		return nil
	}
	return []string{svc.Host(), mesh.Destination{Service: svc, Cluster: id.Cluster}.Host()}
}
