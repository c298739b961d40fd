package federation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// errRejected is wrapped by what is wrong with an answer that came whole: the
// sender is at fault, not the way.
var errRejected = errors.New("rejected")

// pull fetches an origin's catalog from the first of the sources that has it.
func (f *Federation) pull(ctx context.Context, p core.Pull) {
	past := f.cfg.Identity.Trust().Past()
	done := core.Pulled{Pull: p}
	err := errors.New("nobody has it")
	for _, src := range p.From {
		if done.Is, err = f.pullFrom(ctx, src, p); err == nil || ctx.Err() != nil {
			break
		}
		err = fmt.Errorf("from %s: %w", src, err)
		if errors.Is(err, errRejected) {
			f.metrics.rejected.Inc()
			level := slog.LevelWarn
			if p.Failures > 0 {
				level = slog.LevelDebug // it was said, and is tried again and again
			}
			f.log.Log(ctx, level, "catalog rejected", "gateway", p.Origin.String(), "err", err)
		}
	}
	switch {
	case err == nil:
		f.metrics.pulled.Inc()
	case !errors.Is(err, errRejected) && ctx.Err() == nil:
		f.metrics.pullFailed.Inc()
		f.log.Debug("pull catalog", "gateway", p.Origin.String(), "err", err)
	}
	done.Failed = err != nil
	f.core.apply(done)
	select {
	case <-past: // what is trusted has changed meanwhile, and all else was judged before
		f.judgeOrigins()
	default:
	}
}

// pullFrom fetches a catalog from one gateway. It returns where the origin is when
// it is the origin that has answered, else nil.
func (f *Federation) pullFrom(ctx context.Context, src mesh.GatewayID, p core.Pull) (is *catalog.Head, err error) {
	since := p.Have.Version
	if p.Announced.Version == since {
		since = catalog.Version{} // one version, two digests
	}
	var signer identity.Peer
	verify := func(h catalog.Head, sig identity.Signature) (err error) {
		signer, err = f.verifier.verifyHead(p.Origin, h, sig)
		return err
	}
	d, err := f.client.delta(ctx, src, p.Origin, since, verify)
	if err != nil {
		return nil, err
	}
	if d == nil {
		if src != p.Origin {
			return nil, errors.New("it has nothing newer")
		}
		return &p.Have, nil // what was announced was an error or a lie
	}
	err = f.accept(signer, d)
	if errors.Is(err, catalog.ErrMismatch) && !d.Delta.Whole {
		if d, err = f.client.delta(ctx, src, p.Origin, catalog.Version{}, verify); err != nil {
			return nil, err
		}
		if d == nil {
			return nil, errors.New("it has nothing any more")
		}
		err = f.accept(signer, d)
	}
	if err != nil || src != p.Origin {
		return nil, err
	}
	return &d.Delta.Head, nil
}

// accept hands the catalog that a verified delta makes to the core.
func (f *Federation) accept(signer identity.Peer, d *signedDelta) error {
	base, _ := f.held(d.Delta.Head.Origin)
	next, err := base.Apply(d.Delta)
	if err != nil {
		return fmt.Errorf("%w: %w", errRejected, err)
	}
	exports, leftOut := core.Judge(signer, next.Exports())
	f.core.apply(core.Received{State: next, Signature: d.Signature, Signer: signer, Exports: exports, LeftOut: leftOut})
	return nil
}
