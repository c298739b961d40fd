package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ID is who a process of the mesh is: a gateway (Gateway is set), a cluster's certificate
// authority (CA is set) or a workload (Namespace and ServiceAccount are set), never two of
// them. It is comparable.
type ID struct {
	TrustDomain    string
	Cluster        mesh.ClusterName
	Gateway        mesh.GatewayName
	CA             string // name of the process
	Namespace      string
	ServiceAccount string
}

// IsGateway reports whether id is a gateway.
func (id ID) IsGateway() bool { return id.Gateway != "" }

// IsCA reports whether id is a process that issues its cluster's certificates.
func (id ID) IsCA() bool { return id.CA != "" }

// IsWorkload reports whether id is a workload.
func (id ID) IsWorkload() bool { return !id.IsGateway() && !id.IsCA() }

// GatewayID returns the gateway that id names within the mesh; it is zero for
// anybody else.
func (id ID) GatewayID() mesh.GatewayID {
	if !id.IsGateway() {
		return mesh.GatewayID{}
	}
	return mesh.GatewayID{Cluster: id.Cluster, Name: id.Gateway}
}

// String returns the SPIFFE ID, the form that [ParseID] reads.
func (id ID) String() string {
	cluster := "spiffe://" + id.TrustDomain + "/cluster/" + string(id.Cluster)
	switch {
	case id.IsGateway():
		return cluster + "/gateway/" + string(id.Gateway)
	case id.IsCA():
		return cluster + "/ca/" + id.CA
	}
	return cluster + "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount
}

// IstioName returns a workload's identity as Istio writes it, without the cluster; "" for
// anybody else.
func (id ID) IstioName() string {
	if !id.IsWorkload() {
		return ""
	}
	return "spiffe://" + id.TrustDomain + "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount
}

// check returns an error unless id can be written as a SPIFFE ID and read back.
func (id ID) check() error {
	read, err := ParseID(id.String())
	if err == nil && read != id {
		err = fmt.Errorf("identity %s: it must be a gateway, a CA or a workload, and not two of them", id)
	}
	return err
}

// ParseID reads a SPIFFE ID of one of the forms in the package comment.
func ParseID(uri string) (ID, error) {
	sid, err := spiffeid.FromString(uri)
	if err != nil {
		return ID{}, fmt.Errorf("SPIFFE ID %q: %w", uri, err)
	}
	bad := func(what string, err error) (ID, error) {
		return ID{}, fmt.Errorf("SPIFFE ID %q: %s: %w", uri, what, err)
	}
	id := ID{TrustDomain: sid.TrustDomain().Name()}
	seg := strings.Split(strings.TrimPrefix(sid.Path(), "/"), "/")
	switch {
	case len(seg) == 4 && seg[0] == "cluster" && seg[2] == "gateway":
		id.Cluster, id.Gateway = mesh.ClusterName(seg[1]), mesh.GatewayName(seg[3])
		if err := mesh.CheckLabel(seg[3]); err != nil {
			return bad("gateway", err)
		}
	case len(seg) == 4 && seg[0] == "cluster" && seg[2] == "ca":
		id.Cluster, id.CA = mesh.ClusterName(seg[1]), seg[3]
		if err := mesh.CheckLabel(seg[3]); err != nil {
			return bad("ca", err)
		}
	case len(seg) == 6 && seg[0] == "cluster" && seg[2] == "ns" && seg[4] == "sa":
		id.Cluster, id.Namespace, id.ServiceAccount = mesh.ClusterName(seg[1]), seg[3], seg[5]
		if err := mesh.CheckLabel(seg[3]); err != nil {
			return bad("namespace", err)
		}
		if err := CheckServiceAccount(seg[5]); err != nil {
			return bad("service account", err)
		}
	default:
		return ID{}, fmt.Errorf("SPIFFE ID %q: the path must be /cluster/NAME/gateway/NAME, /cluster/NAME/ca/NAME or /cluster/NAME/ns/NAMESPACE/sa/ACCOUNT", uri)
	}
	if err := mesh.CheckLabel(seg[1]); err != nil {
		return bad("cluster", err)
	}
	return id, nil
}

// CheckServiceAccount returns nil for the name of a service account. It accepts what Kubernetes does: labels joined by dots.
func CheckServiceAccount(s string) error {
	if len(s) > 253 {
		return errors.New("longer than 253 characters")
	}
	for label := range strings.SplitSeq(s, ".") {
		if err := mesh.CheckLabel(label); err != nil {
			return err
		}
	}
	return nil
}

// serviceAccountUser begins the name of a service account among Kubernetes's users, and the
// subject of its tokens.
const serviceAccountUser = "system:serviceaccount:"

// ParseServiceAccountUser reads system:serviceaccount:NAMESPACE:NAME. The ID has neither trust
// domain nor cluster: Kubernetes knows none.
func ParseServiceAccountUser(user string) (ID, error) {
	rest, ok := strings.CutPrefix(user, serviceAccountUser)
	namespace, account, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return ID{}, fmt.Errorf("%q is no service account: it must be %sNAMESPACE:NAME", user, serviceAccountUser)
	}
	if err := mesh.CheckLabel(namespace); err != nil {
		return ID{}, fmt.Errorf("service account %q: namespace: %w", user, err)
	}
	if err := CheckServiceAccount(account); err != nil {
		return ID{}, fmt.Errorf("service account %q: %w", user, err)
	}
	return ID{Namespace: namespace, ServiceAccount: account}, nil
}

// IDOf returns the ID that a leaf certificate states. It does not say that the
// statement is true: that is known after a handshake with [Source.ServerTLS] or
// [Source.ClientTLS], or after [TrustStore.Verify]. Istio's name of the same workload may stand
// in front of the ID; it says nothing here.
func IDOf(cert *x509.Certificate) (ID, error) {
	if cert.IsCA || cert.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return ID{}, fmt.Errorf("certificate %s is a CA: a CA signs certificates and is nobody's identity; send a leaf first", subject(cert))
	}
	switch len(cert.URIs) {
	case 0:
		return ID{}, fmt.Errorf("certificate %s has no URI SAN: it must have exactly one, a SPIFFE ID", subject(cert))
	case 1:
		return ParseID(cert.URIs[0].String())
	case 2:
		if id, err := ParseID(cert.URIs[1].String()); err == nil && id.IsWorkload() && cert.URIs[0].String() == id.IstioName() {
			return id, nil
		}
	}
	return ID{}, fmt.Errorf("certificate %s has %d URI SANs (%s, %s, …): it must have exactly one, a SPIFFE ID",
		subject(cert), len(cert.URIs), cert.URIs[0], cert.URIs[1])
}

// PeerID returns the ID of the peer of a finished handshake that was made with
// [Source.ServerTLS] or [Source.ClientTLS].
func PeerID(cs tls.ConnectionState) (ID, error) {
	if !cs.HandshakeComplete {
		return ID{}, errors.New("peer identity: the TLS handshake is not complete")
	}
	if len(cs.PeerCertificates) == 0 {
		return ID{}, errNoCertificate
	}
	return IDOf(cs.PeerCertificates[0])
}

// subject names a certificate in errors, also when its subject is empty.
func subject(cert *x509.Certificate) string {
	if s := cert.Subject.String(); s != "" {
		return fmt.Sprintf("%q", s)
	}
	if len(cert.URIs) > 0 {
		return cert.URIs[0].String()
	}
	return "with serial " + cert.SerialNumber.Text(16)
}
