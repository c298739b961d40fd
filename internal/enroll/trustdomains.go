package enroll

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// TrustDomains has a source take in the members of the other trust domains that a
// configuration names. The error is a [*config.KeyError].
func TrustDomains(s *identity.Source, domains []config.TrustDomain) error {
	var all []identity.Domain
	for i, d := range domains {
		domain, err := identity.NewDomain(d.Name, d.Clusters, d.Roots, d.Fingerprint)
		if err != nil {
			return &config.KeyError{Key: fmt.Sprintf("trustDomains[%d]", i), Problem: err.Error()}
		}
		all = append(all, domain)
	}
	if err := s.Trust().TrustDomains(all); err != nil {
		return &config.KeyError{Key: "trustDomains", Problem: err.Error()}
	}
	return nil
}
