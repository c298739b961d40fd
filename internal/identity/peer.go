package identity

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Peer is what a verified chain of certificates proves of who shows it.
type Peer struct {
	ID
	Founding Founding // of its cluster
	// Namespaces are those whose services its cluster may offer, sorted, as the
	// cluster's certificate names them and so the root has signed. Nil: it names none,
	// and the cluster may offer any. Not nil and empty: none at all.
	Namespaces []string
}

// MayOffer reports whether the peer's cluster may offer services of a namespace, to
// other clusters or by answering for them. Whom its workloads call is another matter.
func (p Peer) MayOffer(namespace string) bool {
	return p.Namespaces == nil || slices.Contains(p.Namespaces, namespace)
}

// CheckOffer returns why the peer's cluster may not offer services of a namespace; nil: it may.
func (p Peer) CheckOffer(namespace string) error {
	if p.MayOffer(namespace) {
		return nil
	}
	return fmt.Errorf("cluster %s may not offer namespace %s: its certificate names %s", p.Cluster, namespace, namesOf(p.Namespaces))
}

// CheckAnswer returns why the peer may not answer for a service of a namespace, nil when
// it may: it must be a workload of that namespace, or a gateway, which ends the TLS for
// plain endpoints of its own cluster; and its cluster must be allowed to offer the namespace.
func (p Peer) CheckAnswer(namespace string) error {
	if !p.IsGateway() && p.Namespace != namespace {
		return fmt.Errorf("%s is no workload of namespace %s", p.ID, namespace)
	}
	return p.CheckOffer(namespace)
}

// peerOf returns what a chain that x509 has verified proves, or why one of its CAs may not
// speak for the leaf: it is confined to another trust domain or another cluster. Where several CAs of
// the chain name namespaces, those count that all of them name.
func peerOf(chain []*x509.Certificate, id ID) (Peer, error) {
	p := Peer{ID: id}
	for _, ca := range chain[1:] {
		a, err := scopeOf(ca.URIs)
		if err != nil {
			return Peer{}, fmt.Errorf("certificate of %s: CA %s: %w", id, subject(ca), err)
		}
		if a.trustDomain != "" && a.trustDomain != id.TrustDomain || a.cluster != "" && a.cluster != id.Cluster {
			return Peer{}, fmt.Errorf("certificate of %s: its CA %s may not speak for it, only for %s", id, subject(ca), a)
		}
		if a.cluster != "" { // the last one counts: the root has signed it, or who is above clusters
			p.Founding = foundingOf(ca)
		}
		if a.namespaces != nil && p.Namespaces != nil {
			p.Namespaces = slices.DeleteFunc(p.Namespaces, func(n string) bool { return !slices.Contains(a.namespaces, n) })
		} else if a.namespaces != nil {
			p.Namespaces = a.namespaces
		}
	}
	return p, nil
}

// scope is what a CA may speak for, as its URI SANs say: all, a trust domain, one cluster
// of it, and of that one the services of some namespaces. Empty parts confine nothing.
type scope struct {
	trustDomain string
	cluster     mesh.ClusterName
	namespaces  []string // sorted; nil: any
}

// String names the scope in errors, without its namespaces.
func (a scope) String() string {
	if a.cluster == "" {
		return "spiffe://" + a.trustDomain
	}
	return clusterURI(a.trustDomain, a.cluster)
}

func clusterURI(td string, cluster mesh.ClusterName) string {
	return "spiffe://" + td + "/cluster/" + string(cluster)
}

// scopeOf reads the URI SANs of a CA. All of them must agree: a CA of two clusters is a
// CA of none.
func scopeOf(uris []*url.URL) (scope, error) {
	var a scope
	for _, u := range uris {
		x, err := parseAuthority(u.String())
		switch {
		case err != nil:
			return scope{}, err
		case a.trustDomain == "":
		case x.trustDomain != a.trustDomain || x.cluster != a.cluster:
			return scope{}, fmt.Errorf("it names %s and %s: a CA is of one cluster", a, x)
		}
		a.trustDomain, a.cluster = x.trustDomain, x.cluster
		a.namespaces = append(a.namespaces, x.namespaces...)
	}
	slices.Sort(a.namespaces)
	a.namespaces = slices.Compact(a.namespaces)
	return a, nil
}

// parseAuthority reads one URI SAN of a CA: a trust domain, one cluster of it, or a
// namespace that the cluster may offer.
func parseAuthority(uri string) (scope, error) {
	sid, err := spiffeid.FromString(uri)
	if err != nil {
		return scope{}, fmt.Errorf("SPIFFE ID %q: %w", uri, err)
	}
	a := scope{trustDomain: sid.TrustDomain().Name()}
	if sid.Path() == "" {
		return a, nil
	}
	seg := strings.Split(sid.Path()[1:], "/")
	named := len(seg) == 4 && seg[2] == "ns" && mesh.CheckLabel(seg[3]) == nil
	if seg[0] != "cluster" || len(seg) != 2 && !named || mesh.CheckLabel(seg[1]) != nil {
		return scope{}, fmt.Errorf("SPIFFE ID %q of a CA: the path must be empty, /cluster/NAME, or /cluster/NAME/ns/NAMESPACE", uri)
	}
	a.cluster = mesh.ClusterName(seg[1])
	if named {
		a.namespaces = []string{seg[3]}
	}
	return a, nil
}

// namesOf lists namespaces in errors.
func namesOf(namespaces []string) string {
	const shown = 5
	switch {
	case len(namespaces) == 0:
		return "none in common with its CA"
	case len(namespaces) <= shown:
		return strings.Join(namespaces, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(namespaces[:shown], ", "), len(namespaces)-shown)
}
