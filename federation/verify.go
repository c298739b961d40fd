package federation

import (
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// verifier says who may say what in a catalog.
type verifier struct{ identity *identity.Source }

// verify returns an error unless the delta is of the origin and signed by it.
func (v verifier) verify(id mesh.GatewayID, d *signedDelta) error {
	h := d.Delta.Head
	if h.Origin != id || h.Version.Seq == 0 {
		return fmt.Errorf("%w: asked for %s, the answer is %s at %s", errRejected, id, h.Origin, h.Version)
	}
	signer, err := v.identity.Verify(h.SignedBytes(), d.Signature)
	if err != nil {
		return fmt.Errorf("%w: %w", errRejected, err)
	}
	if !signer.IsGateway() || signer.GatewayID() != id {
		return fmt.Errorf("%w: signed by %s, which may not speak for %s", errRejected, signer, id)
	}
	return nil
}

// exportable returns the exports that others will take from gateway self.
func (v verifier) exportable(self mesh.GatewayID, exports []mesh.Export) (ok []mesh.Export, err error) {
	var errs []error
	for _, e := range exports {
		if err := v.maySpeakFor(self, &e); err != nil {
			errs = append(errs, err)
			continue
		}
		ok = append(ok, e)
	}
	return ok, errors.Join(errs...)
}

// maySpeakFor returns an error unless every identity of e is one of the origin's
// cluster: a cluster says what it serves, not what others do.
func (v verifier) maySpeakFor(origin mesh.GatewayID, e *mesh.Export) error {
	own := v.identity.ID().TrustDomain
	for _, p := range e.Ports {
		for _, s := range p.Identities {
			id, err := identity.ParseID(s)
			if err != nil {
				return fmt.Errorf("export %s of %s: %w", e.Service, origin, err)
			}
			if id.TrustDomain != own || id.Cluster != origin.Cluster {
				return fmt.Errorf("export %s of %s: identity %s is not of trust domain %s and cluster %s", e.Service, origin, s, own, origin.Cluster)
			}
		}
	}
	return nil
}
