package federation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Publish replaces what this gateway's cluster offers, what matters most first: what
// does not fit is left out from the end. It keeps no reference to
// the slice, never blocks and may be called before Run. Until the first call the
// others keep what they knew before this process started: unknown is not empty.
func (f *Federation) Publish(exports []mesh.Export) {
	f.mu.Lock()
	f.exports = append(make([]mesh.Export, 0, len(exports)), exports...)
	f.mu.Unlock()
	f.published.Notify()
}

// publishLoop makes versions of what Publish was given, coalesced.
func (f *Federation) publishLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.published.C():
		}
		latest := time.NewTimer(maxPublishDelay)
		quiet := time.NewTimer(publishQuiet)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-latest.C:
				waiting = false
			case <-quiet.C:
				waiting = false
			case <-f.published.C():
				quiet.Reset(publishQuiet)
			}
		}
		latest.Stop()
		f.updateOwn(f.withPublished)
	}
}

// withPublished returns the catalog with what Publish was last given.
func (f *Federation) withPublished(s *catalog.State) (*catalog.State, error) {
	f.mu.Lock()
	exports, leaving := f.exports, f.core.Leaving()
	f.mu.Unlock()
	if leaving {
		return s, nil
	}
	mine, err := f.verifier.exportable(exports)
	next, more := s.Next(mine)
	f.leftOut.Set(leftOutOf(exports, next))
	return next, errors.Join(err, more)
}

// LeftOut returns the services that Publish was last given and others are not told
// of, since they are too many or too large, or not this cluster's. Others may know
// them by another gateway of the cluster.
func (f *Federation) LeftOut() []mesh.ServiceName { return f.leftOut.Load() }

func leftOutOf(exports []mesh.Export, s *catalog.State) (names []mesh.ServiceName) {
	for _, e := range exports {
		if !s.Has(e.Service) {
			names = append(names, e.Service)
		}
	}
	return names
}

// updateOwn takes the own catalog to what next makes of it, signs and announces
// it. next is asked again when another version came first.
func (f *Federation) updateOwn(next func(*catalog.State) (*catalog.State, error)) {
	for {
		f.mu.Lock()
		was := f.core.Own().State
		f.mu.Unlock()
		s, err := next(was)
		if err != nil {
			f.log.Error("part of the catalog is not published", "services", len(f.LeftOut()), "err", fmt.Sprintf("%.1024s", err))
		}
		if s == was {
			break
		}
		own := core.Own{State: s}
		if s.Head().Version.Seq > 0 {
			if own.Signature, err = f.cfg.Identity.Sign(s.Head().SignedBytes()); err != nil {
				f.log.Error("catalog is not published", "err", err)
				return
			}
		}
		f.apply(core.Signed{Was: was, Now: own})
		f.mu.Lock()
		taken := f.core.Own().State == s
		f.mu.Unlock()
		if taken {
			f.log.Debug("catalog published", "version", s.Head().Version.String(), "digest", s.Head().Digest.String(), "records", s.Len())
			break
		}
	}
	f.untold.Notify()
	f.announce()
}

// moveEpoch makes the own catalog newer than what a gateway proves to hold of it.
func (f *Federation) moveEpoch(ctx context.Context, from mesh.GatewayID) {
	d, err := f.client.delta(ctx, from, f.cfg.Self, catalog.Version{}, func(h catalog.Head, sig identity.Signature) error {
		_, err := f.verifier.verifyHead(f.cfg.Self, h, sig)
		return err
	})
	if err != nil && ctx.Err() == nil {
		f.log.Warn("a gateway says that it holds a newer catalog of ours, and does not prove it", "gateway", from.String(), "err", err)
	}
	if err != nil || d == nil {
		return
	}
	f.updateOwn(func(s *catalog.State) (*catalog.State, error) {
		if d.Delta.Head.Compare(s.Head()) <= 0 {
			return s, nil
		}
		epoch := d.Delta.Head.Version.Epoch + 1
		if err := f.store.saveEpoch(epoch); err != nil {
			f.notSaved(&core.Changes{}, err)
			return s, err
		}
		f.log.Warn("moved to a later epoch: the state file was lost, or another process writes under this gateway's name", "epoch", epoch, "gateway", from.String())
		return s.At(epoch)
	})
}
