package gateway

import (
	"errors"
	"fmt"
	"net"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// Check says everything that [New] refuses in cfg: errors.Join of one
// [*config.KeyError] for each key whose value cannot be used. It reads the
// identity and opens nothing else.
func Check(cfg *config.Gateway) error {
	_, err := openIdentity(cfg)
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

// openIdentity opens the certificate, which must be this gateway's.
func openIdentity(cfg *config.Gateway) (*identity.Source, error) {
	source, err := identity.Open(cfg.Identity.Dir)
	if err != nil {
		return nil, &config.KeyError{Key: "identity.dir", Problem: err.Error()}
	}
	return source, checkIdentity(cfg, source.ID())
}

// checkIdentity refuses a certificate that is not this gateway's.
func checkIdentity(cfg *config.Gateway, id identity.ID) error {
	holds := fmt.Sprintf("workload %s", id)
	switch {
	case id.IsGateway() && id.GatewayID() == cfg.ID():
		return nil
	case id.IsGateway():
		holds = fmt.Sprintf("gateway %s", id.GatewayID())
	}
	return &config.KeyError{Key: "identity.dir", Problem: fmt.Sprintf(
		"holds the certificate of %s, but this is gateway %s: correct cluster and name, or make one with isthmus pki gateway --cluster %s %s",
		holds, cfg.ID(), cfg.Cluster, cfg.Name)}
}
