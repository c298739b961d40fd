package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Authority issues certificates: the root of a trust domain, or one cluster's
// intermediate. Its methods may be called concurrently.
type Authority struct {
	trustDomain string
	cluster     mesh.ClusterName // empty: the root
	namespaces  []string         // that the cluster may offer, sorted; nil: any
	cert        *x509.Certificate
	key         crypto.Signer
	roots       []*x509.Certificate
	bundle      []byte // signed, from the authority's directory; nil: none
}

// NotAfter returns when the authority's own certificate expires.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

// TrustDomain returns the trust domain that the authority is of.
func (a *Authority) TrustDomain() string { return a.trustDomain }

// Cluster returns the cluster that the authority speaks for, empty for the root.
func (a *Authority) Cluster() mesh.ClusterName { return a.cluster }

// Fingerprint returns the fingerprint of the authority's own key.
func (a *Authority) Fingerprint() Fingerprint { return FingerprintOf(a.cert) }

// Roots returns the roots that the authority's members trust; the last one signed the
// authority. They must not be changed.
func (a *Authority) Roots() []*x509.Certificate { return a.roots }

// Same reports whether two authorities have the same certificate and trust the same.
func (a *Authority) Same(other *Authority) bool {
	return a.cert.Equal(other.cert) && bytes.Equal(a.bundle, other.bundle) && slices.EqualFunc(a.roots, other.roots, (*x509.Certificate).Equal)
}

// NewRoot makes the root of a trust domain, such as "mesh.example", in memory.
func NewRoot(trustDomain string, ttl time.Duration) (*Authority, error) {
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil || td.Name() != trustDomain {
		return nil, fmt.Errorf("trust domain %q: use lower-case letters, digits, dots and hyphens, such as mesh.example", trustDomain)
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	a := &Authority{trustDomain: trustDomain, key: key}
	tmpl, err := template("Isthmus root of "+trustDomain, td.IDString(), time.Time{}, ttl, nil)
	if err != nil {
		return nil, err
	}
	makeCA(tmpl, 1)
	if a.cert, err = sign(tmpl, tmpl, key.Public(), key); err != nil {
		return nil, err
	}
	a.roots = []*x509.Certificate{a.cert}
	return a, nil
}

// Namespaces returns those whose services the authority's cluster may offer, sorted. Nil: any.
func (a *Authority) Namespaces() []string { return slices.Clone(a.namespaces) }

// NewCluster makes the intermediate of a cluster. Whatever it signs, peers
// accept only gateways and workloads of that cluster. When namespaces are given,
// no member takes from the cluster what is of others; nil: any.
func (a *Authority) NewCluster(cluster mesh.ClusterName, namespaces []string, ttl time.Duration) (*Authority, error) {
	return a.newCluster(cluster, namespaces, Founding{}, ttl)
}

// RenewCluster makes another intermediate, with another key, for the cluster of old,
// which it may be used beside. Without that it would be another cluster's of that name.
func (a *Authority) RenewCluster(old *Authority, namespaces []string, ttl time.Duration) (*Authority, error) {
	return a.newCluster(old.cluster, namespaces, foundingOf(old.cert), ttl)
}

// newCluster makes an intermediate; a zero founding: the first of a cluster.
func (a *Authority) newCluster(cluster mesh.ClusterName, namespaces []string, founded Founding, ttl time.Duration) (*Authority, error) {
	if a.cluster != "" {
		return nil, fmt.Errorf("the authority of cluster %s cannot make one for cluster %s: only the root can", a.cluster, cluster)
	}
	if err := mesh.CheckLabel(string(cluster)); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	tmpl, err := template("Isthmus cluster "+string(cluster), clusterURI(a.trustDomain, cluster), time.Time{}, ttl, a.cert)
	if err != nil {
		return nil, err
	}
	for _, n := range namespaces {
		if err := mesh.CheckLabel(n); err != nil {
			return nil, fmt.Errorf("namespace %q: %w", n, err)
		}
		tmpl.URIs = append(tmpl.URIs, tmpl.URIs[0].JoinPath("ns", n))
	}
	if !founded.IsZero() {
		tmpl.Subject.SerialNumber = fmt.Sprintf("%s%d %s", foundingPrefix, founded.At, founded.Key)
	}
	makeCA(tmpl, 0)
	cert, err := sign(tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	if len(cert.Raw) > maxCertificate {
		return nil, fmt.Errorf("%d namespaces make a certificate of %d bytes, at most %d are accepted: name fewer", len(namespaces), len(cert.Raw), maxCertificate)
	}
	return authorityOf(cert, key, a.roots)
}

// Request says what certificate to issue.
type Request struct {
	ID       ID            // its TrustDomain and Cluster may be empty: the authority's
	DNSNames []string      // for programs that check a host name, such as curl
	Istio    bool          // name a workload as Istio does, too: ztunnel knows no other name
	Pod      Pod           // zero: it is issued to none
	TTL      time.Duration // zero: DefaultLeafTTL; never past the authority's own end
	// NotBefore is when the certificate begins to be valid. Zero: an hour ago,
	// for peers whose clock is behind.
	NotBefore time.Time
}

// Issue makes a key and a certificate for it.
func (a *Authority) Issue(r Request) (*Credential, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	chain, err := a.Certify(r, key.Public())
	if err != nil {
		return nil, err
	}
	id, err := IDOf(chain[0])
	if err != nil {
		return nil, err
	}
	return &Credential{id: id, chain: chain, key: key, roots: a.roots}, nil
}

// Certify makes a certificate for a key that somebody else holds. It returns the chain
// to show with it, the leaf first, without the root. Whether the key is good and its
// holder may be r.ID is the caller's to say.
func (a *Authority) Certify(r Request, key crypto.PublicKey) ([]*x509.Certificate, error) {
	id := r.ID
	if id.TrustDomain == "" {
		id.TrustDomain = a.trustDomain
	}
	if id.Cluster == "" {
		id.Cluster = a.cluster
	}
	if err := id.check(); err != nil {
		return nil, err
	}
	if id.TrustDomain != a.trustDomain || a.cluster != "" && id.Cluster != a.cluster {
		return nil, fmt.Errorf("the authority %s cannot issue %s: nobody would accept it", a.cert.URIs[0], id)
	}
	ttl := r.TTL
	if ttl == 0 {
		ttl = DefaultLeafTTL
	}
	tmpl, err := template("", id.String(), r.NotBefore, ttl, a.cert)
	if err != nil {
		return nil, err
	}
	if r.Istio && id.IsWorkload() { // in front, where a ztunnel looks
		istio, err := url.Parse(id.IstioName())
		if err != nil {
			return nil, fmt.Errorf("SPIFFE ID: %w", err)
		}
		tmpl.URIs = append([]*url.URL{istio}, tmpl.URIs...)
	}
	if !r.Pod.IsZero() {
		tmpl.Subject.SerialNumber = r.Pod.subject()
	}
	tmpl.DNSNames = r.DNSNames
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	cert, err := sign(tmpl, a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	chain := []*x509.Certificate{cert}
	if a.cluster != "" {
		chain = append(chain, a.cert)
	}
	return chain, nil
}

// template returns what every certificate has. parent is nil for a root. A
// leaf has no common name: the SAN is its name.
func template(commonName, uri string, notBefore time.Time, ttl time.Duration, parent *x509.Certificate) (*x509.Certificate, error) {
	if ttl <= 0 {
		return nil, fmt.Errorf("lifetime %s: must be positive", ttl)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("SPIFFE ID: %w", err)
	}
	now := time.Now()
	start, end := notBefore, notBefore.Add(ttl)
	if notBefore.IsZero() {
		start, end = now.Add(-backdate), now.Add(ttl)
	}
	if parent != nil {
		if err := checkTime(parent, now); err != nil {
			return nil, fmt.Errorf("the CA %s: %w", subject(parent), err)
		}
		if end.After(parent.NotAfter) {
			end = parent.NotAfter
		}
	}
	t := &x509.Certificate{
		NotBefore:             start,
		NotAfter:              end,
		URIs:                  []*url.URL{u},
		BasicConstraintsValid: true,
	}
	if commonName != "" {
		t.Subject = pkix.Name{Organization: []string{"Isthmus"}, CommonName: commonName}
	}
	return t, nil
}

func makeCA(t *x509.Certificate, pathLen int) {
	t.IsCA = true
	t.MaxPathLen, t.MaxPathLenZero = pathLen, pathLen == 0
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
}

// NewKey makes a private key for a certificate: ECDSA P-256.
func NewKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

// sign makes the certificate. The serial number is random (x509 draws one when
// the template has none).
func sign(tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return cert, nil
}

// authorityOf checks that the parts are an authority, as they are read from files.
func authorityOf(cert *x509.Certificate, key crypto.Signer, roots []*x509.Certificate) (*Authority, error) {
	if !cert.IsCA || len(cert.URIs) == 0 {
		return nil, errors.New("is not the CA of a trust domain or cluster: it must be a CA with a URI SAN")
	}
	of, err := scopeOf(cert.URIs)
	if err != nil {
		return nil, err
	}
	if pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("the key beside it is not its own")
	}
	if err := checkTime(cert, time.Now()); err != nil {
		return nil, err
	}
	if of.cluster == "" {
		roots = []*x509.Certificate{cert}
	} else if roots, err = signerLast(cert, roots); err != nil {
		return nil, err
	}
	return &Authority{trustDomain: of.trustDomain, cluster: of.cluster, namespaces: of.namespaces, cert: cert, key: key, roots: roots}, nil
}

// signerLast returns roots with the one at the end that signed the intermediate ca.
func signerLast(ca *x509.Certificate, roots []*x509.Certificate) ([]*x509.Certificate, error) {
	i := slices.IndexFunc(roots, func(r *x509.Certificate) bool { return ca.CheckSignatureFrom(r) == nil })
	if i < 0 {
		return nil, fmt.Errorf("none of the %d roots in %s signed it: nobody would accept what it issues", len(roots), rootsFile)
	}
	ordered := slices.Delete(slices.Clone(roots), i, i+1)
	return append(ordered, roots[i]), nil
}

// IssueCA makes the certificate of a process that issues with this authority. It lasts as
// long as the authority's own, since whoever has its key has that one's, too. The roots
// come with it in every handshake, for clients that know their fingerprints only.
func (a *Authority) IssueCA(name string, dnsNames []string) (*Credential, error) {
	now := time.Now()
	c, err := a.Issue(Request{ID: ID{CA: name}, DNSNames: dnsNames, NotBefore: now.Add(-backdate), TTL: a.cert.NotAfter.Sub(now) + backdate})
	if err != nil {
		return nil, err
	}
	c.chain = append(c.chain, a.roots[max(0, len(a.roots)-(maxChain-len(c.chain))):]...)
	c.bundle = a.bundle
	return c, nil
}

// Certificate returns the authority's own.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Trusting returns the authority such that whom it issues certificates to is given roots.
func (a *Authority) Trusting(roots []*x509.Certificate) *Authority {
	with := *a
	with.roots = roots
	return &with
}
