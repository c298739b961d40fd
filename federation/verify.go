package federation

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// verifier says who may say what in a catalog.
type verifier struct{ identity *identity.Source }

// verifyHead returns who signed a head: an error unless it is of the origin and signed by it.
// It says nothing of what is in the catalog: that it is what the head says, [catalog.State.Apply]
// finds by its digest, and which of it the signer may offer [core.Judge]. [Federation.accept] asks
// all three. A catalog from this gateway's own disk was verified when it came; its signer is
// judged anew.
func (v verifier) verifyHead(id mesh.GatewayID, h catalog.Head, sig identity.Signature) (identity.Peer, error) {
	if h.Origin != id || h.Version.Seq == 0 {
		return identity.Peer{}, fmt.Errorf("%w: asked for %s, the answer is %s at %s", errRejected, id, h.Origin, h.Version)
	}
	if ahead := time.Until(time.UnixMilli(int64(min(h.Version.Epoch, math.MaxInt64)))); ahead > core.MaxAhead {
		return identity.Peer{}, fmt.Errorf("%w: an epoch %s ahead of this gateway's clock: check both clocks", errRejected, ahead.Round(time.Second))
	}
	signer, err := v.identity.Trust().Verify(h.SignedBytes(), sig)
	if err != nil {
		return identity.Peer{}, fmt.Errorf("%w: %w", errRejected, err)
	}
	if !signer.IsGateway() || signer.GatewayID() != id {
		return identity.Peer{}, fmt.Errorf("%w: signed by %s, which may not speak for %s", errRejected, signer, id)
	}
	return signer, nil
}

// exportable returns the exports that others will take from this gateway.
func (v verifier) exportable(exports []mesh.Export) (ok []mesh.Export, err error) {
	ok, leftOut := core.Judge(v.identity.Self(), exports)
	var errs []error
	for _, l := range leftOut {
		errs = append(errs, fmt.Errorf("%s: %s", l.Service, l.Why))
	}
	return ok, errors.Join(errs...)
}
