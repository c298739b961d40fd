package sidecar

import (
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/enroll"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// Check says what [New] would refuse in a configuration that was loaded without a
// fault, and in what it names: a [*config.KeyError]. Only whether a program is
// there to accelerate is not in it.
func Check(cfg *config.Sidecar) error {
	source, identityErr := enroll.Check(Process(cfg))
	if source != nil && identityErr == nil {
		identityErr = enroll.TrustDomains(source, cfg.TrustDomains)
	}
	_, usersErr := explicit(cfg)
	return errors.Join(identityErr, usersErr)
}

// Process says whose identity a sidecar needs.
func Process(cfg *config.Sidecar) enroll.Process {
	p := enroll.Process{
		Identity: cfg.Identity, Role: config.SidecarRole, State: cfg.State,
		Accept: func(id identity.ID) error { return checkIdentity(cfg, id) },
		Name:   "sidecar", TokenFor: "--workload NAMESPACE/NAME",
		Make: "isthmus pki workload --cluster CLUSTER NAMESPACE/NAME", Path: "/cluster/CLUSTER/ns/NAMESPACE/sa/NAME",
	}
	if all := cfg.Served(); len(all) > 0 && all[0].Name.Name != "" { // whose account it is, for want of a better guess
		svc := &all[0]
		p.Name, p.TokenFor = "sidecar of "+svc.Name.String(), "--workload "+svc.Name.String()
		p.Make = "isthmus pki workload --cluster CLUSTER " + svc.Name.String()
		p.Path = fmt.Sprintf("/cluster/CLUSTER/ns/%s/sa/%s", svc.Name.Namespace, svc.Name.Name)
	}
	return p
}

// checkIdentity refuses a certificate that is not this workload's.
func checkIdentity(cfg *config.Sidecar, id identity.ID) error {
	if !id.IsWorkload() {
		return fmt.Errorf("it is that of %s, which is no workload", id)
	}
	for _, svc := range cfg.Served() {
		if svc.Name.Namespace != id.Namespace {
			return fmt.Errorf("it is that of %s, which may only offer services of namespace %s, and not %s", id, id.Namespace, svc.Name)
		}
	}
	return nil
}
