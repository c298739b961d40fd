package federation

import (
	"context"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// judgeLoop judges the catalogs again whenever what is trusted has changed, until ctx ends.
func (f *Federation) judgeLoop(ctx context.Context) {
	for {
		past := f.cfg.Identity.Trust().Past() // before the judgement
		f.judgeOrigins()
		select {
		case <-past:
		case <-ctx.Done():
			return
		}
	}
}

// judgeOrigins drops the catalogs whose signers are trusted no more.
func (f *Federation) judgeOrigins() {
	var held map[mesh.GatewayID]identity.Signature
	f.core.with(func(c *core.Core) { held = c.Signatures() })
	var out core.Distrusted
	for id, sig := range held {
		if err := f.cfg.Identity.Trust().TrustsSigner(sig); err != nil {
			f.log.Warn("the catalog of a gateway is dropped: its signer is trusted no more", "gateway", id.String(), "err", err)
			out.Gateways = append(out.Gateways, id)
		}
	}
	if len(out.Gateways) > 0 {
		slices.SortFunc(out.Gateways, mesh.GatewayID.Compare)
		f.core.apply(out)
	}
}
