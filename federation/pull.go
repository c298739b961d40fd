package federation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// errRejected is wrapped by what is wrong with an answer that came whole: the
// sender is at fault, not the way.
var errRejected = errors.New("rejected")

// hearLocked takes note that somebody says an origin is at a head. Nothing of it
// is proved, so it only makes us look.
func (f *Federation) hearLocked(h catalog.Head, from mesh.GatewayID) {
	o := f.origins[h.Origin]
	if o == nil {
		if len(f.origins) >= maxGateways && !f.evictLocked() {
			return
		}
		o = &origin{confirmed: time.Now(), stale: true}
		f.origins[h.Origin] = o
	}
	switch newer := h.Compare(o.announced); {
	case newer > 0:
	case newer == 0 && from != h.Origin && from != o.hinter: // it holds what we may still be looking for
	default:
		return
	}
	o.announced, o.hinter = h, from
	o.failures, o.retry = 0, time.Time{}
	kick(f.stepKick)
}

// evictLocked makes room for an origin by dropping one of which nothing was ever
// accepted: names cost nothing to make up.
func (f *Federation) evictLocked() bool {
	for id, o := range f.origins {
		if o.floor == (catalog.Version{}) && !o.pulling {
			delete(f.origins, id)
			return true
		}
	}
	return false
}

// mustMoveLocked reports whether somebody holds records of ours that we do not
// know of: our state file was lost and our clock was behind.
func (f *Federation) mustMoveLocked(h catalog.Head) bool {
	now := time.Now()
	if f.leaving || h.Version.Seq == 0 || h.Compare(f.own.Head()) <= 0 || now.Sub(f.ownMoved) < epochMoveInterval {
		return false
	}
	f.ownMoved = now
	return true
}

// moveEpoch makes the own catalog newer than what a gateway proves to hold of it.
func (f *Federation) moveEpoch(ctx context.Context, from mesh.GatewayID) error {
	d, err := f.fetchDelta(ctx, from, f.cfg.Self, catalog.Version{})
	if err != nil || d == nil {
		return err
	}
	if err := f.verify(f.cfg.Self, d); err != nil {
		return err
	}
	var moveErr error
	f.updateOwn(func(s *catalog.State) (*catalog.State, error) {
		if d.Delta.Head.Compare(s.Head()) <= 0 {
			return s, nil
		}
		epoch := d.Delta.Head.Version.Epoch + 1
		f.mu.Lock()
		st := f.store
		f.mu.Unlock()
		if moveErr = st.saveEpoch(epoch); moveErr != nil {
			return s, nil
		}
		f.log.Warn("moved to a later epoch: the state file was lost, or another process writes under this gateway's name", "epoch", epoch, "peer", from.String())
		return s.At(epoch)
	})
	return moveErr
}

// pull fetches an origin's catalog from the first of the sources that has it.
func (f *Federation) pull(ctx context.Context, id mesh.GatewayID, have catalog.Head, from []mesh.GatewayID) {
	f.mu.Lock()
	announced := f.origins[id].announced
	f.mu.Unlock()
	err := errors.New("nobody has it")
	for _, src := range from {
		if err = f.pullFrom(ctx, src, id, have, announced); err == nil || ctx.Err() != nil {
			break
		}
		err = fmt.Errorf("from %s: %w", src, err)
		if errors.Is(err, errRejected) {
			f.metrics.rejected.Inc()
			f.log.Warn("catalog rejected", "peer", id.String(), "err", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer kick(f.stepKick)
	f.pulls--
	o := f.origins[id]
	if o == nil {
		return
	}
	o.pulling = false
	if err == nil {
		o.failures, o.retry = 0, time.Time{}
		f.metrics.pulled.Inc()
		return
	}
	o.failures++
	o.retry = time.Now().Add(backoff(o.failures))
	if !errors.Is(err, errRejected) && ctx.Err() == nil {
		f.metrics.pullFailed.Inc()
		f.log.Debug("pull catalog", "peer", id.String(), "err", err)
	}
}

func (f *Federation) pullFrom(ctx context.Context, src, id mesh.GatewayID, have, announced catalog.Head) error {
	since := have.Version
	if announced.Version == have.Version {
		since = catalog.Version{} // one version, two digests
	}
	d, err := f.fetchDelta(ctx, src, id, since)
	if err != nil {
		return err
	}
	if d == nil {
		if src != id {
			return errors.New("it has nothing newer")
		}
		// The origin itself: what was announced was an error or a lie.
		f.settle(id, announced, have)
		return nil
	}
	err = f.accept(id, d)
	if errors.Is(err, catalog.ErrMismatch) && !d.Delta.Whole {
		if d, err = f.fetchDelta(ctx, src, id, catalog.Version{}); err != nil {
			return err
		}
		if d == nil {
			return errors.New("it has nothing any more")
		}
		err = f.accept(id, d)
	}
	if err != nil {
		return err
	}
	if src == id {
		f.settle(id, announced, d.Delta.Head)
	}
	return nil
}

// settle replaces what was announced of an origin by what the origin itself has
// answered, unless something else was announced meanwhile.
func (f *Federation) settle(id mesh.GatewayID, announced, is catalog.Head) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o := f.origins[id]; o != nil && o.announced == announced {
		o.announced = is
	}
}

// verify returns an error unless the delta is of the origin and signed by it.
func (f *Federation) verify(id mesh.GatewayID, d *signedDelta) error {
	h := d.Delta.Head
	if h.Origin != id || h.Version.Seq == 0 {
		return fmt.Errorf("%w: asked for %s, the answer is %s at %s", errRejected, id, h.Origin, h.Version)
	}
	signer, err := f.cfg.Identity.Verify(h.SignedBytes(), d.Signature)
	if err != nil {
		return fmt.Errorf("%w: %w", errRejected, err)
	}
	if !signer.IsGateway() || signer.GatewayID() != id {
		return fmt.Errorf("%w: signed by %s, which may not speak for %s", errRejected, signer, id)
	}
	return nil
}

// accept verifies a delta and merges it. An answer that is not newer than what is
// held is no error, and changes nothing.
func (f *Federation) accept(id mesh.GatewayID, d *signedDelta) error {
	if err := f.verify(id, d); err != nil {
		return err
	}
	f.mu.Lock()
	o := f.origins[id]
	if o == nil {
		f.mu.Unlock()
		return nil // forgotten meanwhile
	}
	base := o.state
	f.mu.Unlock()
	next, err := base.Apply(d.Delta)
	if err != nil {
		return fmt.Errorf("%w: %w", errRejected, err)
	}
	exports := next.Exports()
	for i := range exports {
		if err := f.maySpeakFor(id, &exports[i]); err != nil {
			return fmt.Errorf("%w: %w", errRejected, err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h := next.Head()
	if f.origins[id] != o || h.Version.Compare(o.floor) < 0 || o.state == nil && h.Version == o.floor {
		return nil
	}
	if o.state != nil && catalog.Conflict(o.state.Head(), h) {
		f.metrics.conflicts.Inc()
		f.log.Error("two catalogs under one version: do two gateways have this name?", "peer", id.String(), "version", h.Version.String(),
			"digest", o.state.Head().Digest.String(), "other", h.Digest.String())
	}
	if catalog.Prefer(o.state, next) != next {
		return nil
	}
	o.state, o.sig, o.exports, o.floor = next, d.Signature, exports, h.Version
	if h.Compare(o.announced) > 0 {
		o.announced = h
	}
	f.dirty.origins[id], f.viewDirty = true, true
	kick(f.storeKick)
	kick(f.stepKick)
	f.log.Debug("catalog received", "peer", id.String(), "version", h.Version.String(), "digest", h.Digest.String(), "records", next.Len())
	return nil
}
