package identity

import (
	"crypto/x509"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// maxDomains bounds the trust domains of one mesh: each has a bundle that every
// process holds.
const maxDomains = 16

// Domain is another trust domain whose members are taken in.
type Domain struct {
	Name string
	// Roots and Pins say whom to believe until a bundle says more: certificates, or
	// the fingerprints of roots that a peer then has to send along, as gateways do.
	Roots []*x509.Certificate
	Pins  []Fingerprint
	// Clusters are those that are its own. A cluster belongs to one trust domain:
	// what is known by the name of a cluster is nobody else's.
	Clusters []mesh.ClusterName
}

// NewDomain reads what a configuration says of another trust domain: a PEM file with its
// roots or, where there is none, the fingerprint of one.
func NewDomain(name string, clusters []mesh.ClusterName, rootsFile, fingerprint string) (Domain, error) {
	d := Domain{Name: name, Clusters: clusters}
	if td, err := spiffeid.TrustDomainFromString(name); err != nil || td.Name() != name {
		return Domain{}, fmt.Errorf("trust domain %q: use lower-case letters, digits, dots and hyphens, such as other.example", name)
	}
	if rootsFile == "" {
		f, err := ParseFingerprint(fingerprint)
		d.Pins = []Fingerprint{f}
		return d, err
	}
	var err error
	d.Roots, err = readPEM(readBounded, rootsFile, parseCertificates)
	return d, err
}

func checkDomains(self ID, domains []Domain) error {
	if len(domains) >= maxDomains {
		return fmt.Errorf("%d other trust domains, at most %d", len(domains), maxDomains-1)
	}
	owner := map[string]string{string(self.Cluster): self.TrustDomain}
	for _, d := range domains {
		switch {
		case d.Name == self.TrustDomain:
			return fmt.Errorf("trust domain %s is this process's own: its roots are those of its identity", d.Name)
		case len(d.Roots) == 0 && len(d.Pins) == 0:
			return fmt.Errorf("trust domain %s: name a file with its roots, or the fingerprint of one", d.Name)
		case len(d.Clusters) == 0:
			return fmt.Errorf("trust domain %s: name its clusters: nothing of it is accepted otherwise", d.Name)
		}
		for _, c := range d.Clusters {
			if other, taken := owner[string(c)]; taken {
				return fmt.Errorf("cluster %s is said to be of trust domain %s and of %s: a cluster belongs to one", c, other, d.Name)
			}
			owner[string(c)] = d.Name
		}
	}
	return nil
}
