package federation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// OwnCatalog is what this gateway offers, version by version. Its methods may be called
// concurrently.
type OwnCatalog struct {
	self     mesh.GatewayID
	core     *lockedCore // holds the newest version
	memory   *memory     // holds its epoch
	client   client
	verifier verifier
	tell     func() // has the others told of the newest version
	log      *slog.Logger
	leftOut  state.Store[[]mesh.ServiceName] // of exports

	published state.Notify // Publish has something

	mu      sync.Mutex
	exports []mesh.Export // what Publish was last given
}

// Publish replaces what this gateway's cluster offers, what matters most first: what
// does not fit is left out from the end. It keeps no reference to
// the slice, never blocks and may be called before Run. Until the first call the
// others keep what they knew before this process started: unknown is not empty.
func (o *OwnCatalog) Publish(exports []mesh.Export) {
	o.mu.Lock()
	o.exports = append(make([]mesh.Export, 0, len(exports)), exports...)
	o.mu.Unlock()
	o.published.Notify()
}

// publishLoop makes versions of what Publish was given, coalesced.
func (o *OwnCatalog) publishLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.published.C():
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
			case <-o.published.C():
				quiet.Reset(publishQuiet)
			}
		}
		latest.Stop()
		o.update(o.withPublished)
	}
}

// withPublished returns the catalog with what Publish was last given.
func (o *OwnCatalog) withPublished(s *catalog.State) (*catalog.State, error) {
	o.mu.Lock()
	exports := o.exports
	o.mu.Unlock()
	var leaving bool
	o.core.with(func(c *core.Core) { leaving = c.Leaving() })
	if leaving {
		return s, nil
	}
	mine, err := o.verifier.exportable(exports)
	next, more := s.Next(mine)
	o.leftOut.Set(leftOutOf(exports, next))
	return next, errors.Join(err, more)
}

// LeftOut returns the services that Publish was last given and others are not told
// of, since they are too many or too large, or not this cluster's. Others may know
// them by another gateway of the cluster.
func (o *OwnCatalog) LeftOut() []mesh.ServiceName { return o.leftOut.Load() }

func leftOutOf(exports []mesh.Export, s *catalog.State) (names []mesh.ServiceName) {
	for _, e := range exports {
		if !s.Has(e.Service) {
			names = append(names, e.Service)
		}
	}
	return names
}

// update takes the own catalog to what next makes of it, signs it and tells
// of it. next is asked again when another version came first.
func (o *OwnCatalog) update(next func(*catalog.State) (*catalog.State, error)) {
	for {
		var was *catalog.State
		o.core.with(func(c *core.Core) { was = c.Own().State })
		s, err := next(was)
		if err != nil {
			o.log.Error("part of the catalog is not published", "services", len(o.LeftOut()), "err", fmt.Sprintf("%.1024s", err))
		}
		if s == was {
			break
		}
		own := core.Own{State: s}
		if s.Head().Version.Seq > 0 {
			if own.Signature, err = o.verifier.identity.Sign(s.Head().SignedBytes()); err != nil {
				o.log.Error("catalog is not published", "err", err)
				return
			}
		}
		o.core.apply(core.Signed{Was: was, Now: own})
		var taken bool
		o.core.with(func(c *core.Core) { taken = c.Own().State == s })
		if taken {
			o.log.Debug("catalog published", "version", s.Head().Version.String(), "digest", s.Head().Digest.String(), "records", s.Len())
			break
		}
	}
	o.tell()
}

// moveEpoch makes the own catalog newer than what a gateway proves to hold of it.
func (o *OwnCatalog) moveEpoch(ctx context.Context, from mesh.GatewayID) {
	d, err := o.client.delta(ctx, from, o.self, catalog.Version{}, func(h catalog.Head, sig identity.Signature) error {
		_, err := o.verifier.verifyHead(o.self, h, sig)
		return err
	})
	if err != nil && ctx.Err() == nil {
		o.log.Warn("a gateway says that it holds a newer catalog of ours, and does not prove it", "gateway", from.String(), "err", err)
	}
	if err != nil || d == nil {
		return
	}
	o.update(func(s *catalog.State) (*catalog.State, error) {
		if d.Delta.Head.Compare(s.Head()) <= 0 {
			return s, nil
		}
		epoch := d.Delta.Head.Version.Epoch + 1
		if err := o.memory.saveEpoch(epoch); err != nil {
			return s, err
		}
		o.log.Warn("moved to a later epoch: the state file was lost, or another process writes under this gateway's name", "epoch", epoch, "gateway", from.String())
		return s.At(epoch)
	})
}
