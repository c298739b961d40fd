package gateway

import (
	"errors"
	"fmt"
	"net"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/enroll"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// Check says everything that [New] refuses in cfg: errors.Join of one
// [*config.KeyError] for each key whose value cannot be used. It reads the
// identity and opens nothing else.
func Check(cfg *config.Gateway) error {
	source, err := enroll.Check(Process(cfg))
	if source != nil && err == nil {
		err = enroll.TrustDomains(source, cfg.TrustDomains)
	}
	return errors.Join(checkAddresses(cfg), err)
}

// checkAddresses refuses addresses that cannot be listened on or told to others.
func checkAddresses(cfg *config.Gateway) error {
	var faults []error
	refuse := func(key string, err error) {
		if err != nil {
			faults = append(faults, &config.KeyError{Key: key, Problem: err.Error()})
		}
	}
	_, _, err := net.SplitHostPort(cfg.Listen.Tunnel)
	refuse("listen.tunnel", err)
	refuse("advertise", federation.CheckAddress(cfg.Advertise))
	refuse("meshAddress", federation.CheckAddress(cfg.MeshAddress))
	return errors.Join(faults...)
}

// Process says whose identity a gateway needs.
func Process(cfg *config.Gateway) enroll.Process {
	return enroll.Process{
		Identity: cfg.Identity, Role: config.GatewayRole, State: cfg.State,
		Accept: func(id identity.ID) error { return checkIdentity(cfg, id) },
		Name:   "gateway " + cfg.ID().String(), TokenFor: "--gateway " + string(cfg.Name),
		Make: fmt.Sprintf("isthmus pki gateway --cluster %s %s", cfg.Cluster, cfg.Name),
		Path: fmt.Sprintf("/cluster/%s/gateway/%s", cfg.Cluster, cfg.Name),
	}
}

// checkIdentity refuses a certificate that is not this gateway's.
func checkIdentity(cfg *config.Gateway, id identity.ID) error {
	whose := "workload " + id.String()
	switch {
	case id.IsGateway() && id.GatewayID() == cfg.ID():
		return nil
	case id.IsGateway():
		whose = "gateway " + id.GatewayID().String()
	}
	return fmt.Errorf("it is that of %s, but this is gateway %s: correct cluster and name", whose, cfg.ID())
}
