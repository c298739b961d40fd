package federation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Publish replaces what this gateway's cluster offers. It keeps no reference to
// the slice, never blocks and may be called before Run. Until the first call the
// others keep what they knew before this process started: unknown is not empty.
func (f *Federation) Publish(exports []mesh.Export) {
	f.mu.Lock()
	if f.leaving {
		f.mu.Unlock()
		return
	}
	f.pending = append(make([]mesh.Export, 0, len(exports)), exports...)
	f.mu.Unlock()
	kick(f.publishKick)
}

// publishLoop makes versions of what Publish was given, coalesced.
func (f *Federation) publishLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.publishKick:
		}
		latest := time.NewTimer(publishMax)
		quiet := time.NewTimer(publishQuiet)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-latest.C:
				waiting = false
			case <-quiet.C:
				waiting = false
			case <-f.publishKick:
				quiet.Reset(publishQuiet)
			}
		}
		latest.Stop()
		f.updateOwn(func(s *catalog.State) (*catalog.State, error) {
			f.mu.Lock()
			exports, leaving := f.pending, f.leaving
			f.mu.Unlock()
			if leaving {
				return s, nil
			}
			mine, err := f.speakable(exports)
			next, more := s.Next(mine)
			return next, errors.Join(err, more)
		})
	}
}

// speakable returns the exports that others will take from this gateway.
func (f *Federation) speakable(exports []mesh.Export) (ok []mesh.Export, err error) {
	var errs []error
	for _, e := range exports {
		if err := f.maySpeakFor(f.cfg.Self, &e); err != nil {
			errs = append(errs, err)
			continue
		}
		ok = append(ok, e)
	}
	return ok, errors.Join(errs...)
}

// maySpeakFor returns an error unless every identity of e is one of the origin's
// cluster: a cluster says what it serves, not what others do.
func (f *Federation) maySpeakFor(origin mesh.GatewayID, e *mesh.Export) error {
	own := f.cfg.Identity.ID().TrustDomain
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

// updateOwn takes the own catalog to what next makes of it, signs and announces it.
func (f *Federation) updateOwn(next func(*catalog.State) (*catalog.State, error)) {
	f.ownMu.Lock()
	defer f.ownMu.Unlock()
	f.mu.Lock()
	was := f.own
	f.mu.Unlock()
	s, err := next(was)
	if err != nil {
		f.log.Error("part of the catalog is not published", "err", err)
	}
	if s != was && s.Head().Version.Seq > 0 {
		expiry := f.cfg.Identity.NotAfter()
		sig, err := f.cfg.Identity.Sign(s.Head().SignedBytes())
		if err != nil {
			f.log.Error("catalog is not published", "err", err)
			return
		}
		f.mu.Lock()
		f.own, f.ownSig, f.ownExpiry, f.viewDirty = s, sig, expiry, true
		f.mu.Unlock()
		f.log.Debug("catalog published", "version", s.Head().Version.String(), "digest", s.Head().Digest.String(), "records", s.Len())
	} else if s != was {
		f.mu.Lock()
		f.own, f.viewDirty = s, true
		f.mu.Unlock()
	}
	kick(f.stepKick)
	f.announce()
}
