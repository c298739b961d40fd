package sidecar

import (
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// Check says what [New] would refuse in a configuration that was loaded without a
// fault, and in what it names: a [*config.KeyError]. Only whether a program is
// there to accelerate is not in it.
func Check(cfg *config.Sidecar) error {
	_, identityErr := openIdentity(cfg)
	_, usersErr := explicit(cfg)
	return errors.Join(identityErr, usersErr)
}

// openIdentity opens the certificate, which must be this workload's.
func openIdentity(cfg *config.Sidecar) (*identity.Source, error) {
	refuse := func(format string, args ...any) (*identity.Source, error) {
		return nil, &config.KeyError{Key: "identity.dir", Problem: fmt.Sprintf(format, args...)}
	}
	source, err := identity.Open(cfg.Identity.Dir)
	if err != nil {
		return refuse("%v", err)
	}
	id := source.ID()
	if !id.IsWorkload() {
		return refuse("holds the certificate of %s, which is no workload's: make one with isthmus pki workload", id)
	}
	if svc := cfg.Service; svc != nil && svc.Name.Namespace != id.Namespace {
		return refuse("holds the certificate of %s, which may only offer services of namespace %s: make one with isthmus pki workload --cluster %s %s",
			id, id.Namespace, id.Cluster, svc.Name)
	}
	return source, nil
}
