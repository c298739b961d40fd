package federation

import (
	"context"
	"net"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// origin is what is held of another gateway's catalog. Guarded by Federation.mu.
type origin struct {
	state   *catalog.State // nil: nothing, or forgotten
	sig     identity.Signature
	exports []mesh.Export // of state
	// floor is the newest version ever accepted: nothing older is, even when the
	// state was forgotten.
	floor catalog.Version
	// announced is the newest head heard of, which gossip does not prove; hinter
	// is who listed it.
	announced catalog.Head
	hinter    mesh.GatewayID

	stale     bool
	confirmed time.Time // while stale: when it last was not

	pulling  bool
	failures int
	retry    time.Time // not before
}

// member is what gossip says of another gateway. Guarded by Federation.mu.
type member struct {
	alive bool
	known bool // meta could be read
	meta  nodeMeta
	since time.Time // when alive last became true
	hurry bool      // since then nobody was told to dial it
}

// peer is a gateway that there is or was a tunnel to. Guarded by Federation.mu.
type peer struct {
	tunnel.Peer
	busy   bool // an exchange with it runs
	synced time.Time
	retry  time.Time // not before
	rung   keyring   // the key ring that it has, as far as we know
	noted  catalog.Version
}

// keep looks at everything whenever something changed and every tick: what to
// forget, whom to tell the keys, whom to join, what to pull, where to keep
// tunnels to, what to show.
func (f *Federation) keep(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		f.step(ctx)
		last := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-f.stepKick:
		case <-t.C:
		}
		if early := viewInterval - time.Since(last); early > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(early):
			}
		}
	}
}

// step does what keep says, once. It is called by keep only.
func (f *Federation) step(ctx context.Context) {
	now := time.Now()
	f.mu.Lock()
	f.forgetLocked(now)
	f.confirmLocked(now)
	f.chooseKeyLocked(now)
	f.startExchangesLocked(ctx, now)
	f.startPullsLocked(ctx, now)
	addrs := make(map[mesh.GatewayID][]net.Addr, len(f.peers))
	for id, p := range f.peers {
		if p.State == tunnel.Up {
			advertise := ""
			if m := f.members[id]; m != nil {
				advertise = m.meta.Advertise
			}
			addrs[id] = packetAddrs(p.Addr, advertise)
		}
	}
	targets := f.targetsLocked()
	hurry := f.hurryLocked()
	retarget := !slices.Equal(targets, f.targets)
	f.targets = targets
	resign := f.own.Head().Version.Seq > 0 && !f.leaving && !f.ownExpiry.Equal(f.cfg.Identity.NotAfter())
	var v *View
	if f.viewDirty {
		f.viewDirty = false
		v = f.buildViewLocked()
	}
	f.mu.Unlock()

	f.transport.setAddrs(addrs)
	if retarget {
		f.cfg.Tunnel.SetTargets(targets)
	}
	for _, id := range hurry {
		f.cfg.Tunnel.Hurry(id)
	}
	if v != nil {
		f.viewMu.Lock()
		past := f.past
		f.view, f.past = v, make(chan struct{})
		f.viewMu.Unlock()
		close(past)
	}
	if resign {
		f.updateOwn(func(s *catalog.State) (*catalog.State, error) { return s.Again(), nil })
	}
}

// startExchangesLocked starts one with every live peer that has to be told keys,
// joined, or asked again for its versions.
func (f *Federation) startExchangesLocked(ctx context.Context, now time.Time) {
	for id, p := range f.peers {
		if p.busy || p.State != tunnel.Up || f.leaving || now.Before(p.retry) {
			continue
		}
		if p.rung.equal(f.ring) && !f.mustJoinLocked(id) && now.Sub(p.synced) < syncInterval {
			continue
		}
		p.busy = true
		f.running.Go(func() { f.exchange(ctx, id) })
	}
}

// startPullsLocked pulls every catalog that is announced newer than held.
func (f *Federation) startPullsLocked(ctx context.Context, now time.Time) {
	for id, o := range f.origins {
		if f.pulls >= maxPulls {
			return
		}
		if o.pulling || f.leaving || now.Before(o.retry) || o.announced.Version.Seq == 0 {
			continue
		}
		var have catalog.Head
		if o.state != nil {
			have = o.state.Head()
		}
		if o.announced.Compare(have) <= 0 || o.announced.Version.Compare(o.floor) < 0 ||
			o.state == nil && o.announced.Version == o.floor {
			continue
		}
		from := f.sourcesLocked(id, o.hinter)
		if len(from) == 0 {
			continue
		}
		o.pulling = true
		f.pulls++
		f.running.Go(func() { f.pull(ctx, id, have, from) })
	}
}

// sourcesLocked returns whom to pull an origin's catalog from, each with a live
// tunnel: itself, who listed the version, another gateway of its cluster, and
// somebody else, who may have it by now.
func (f *Federation) sourcesLocked(id, hinter mesh.GatewayID) []mesh.GatewayID {
	var from, sibling, other []mesh.GatewayID
	for peer, p := range f.peers {
		switch {
		case p.State != tunnel.Up:
		case peer == id:
			from = slices.Insert(from, 0, peer)
		case peer == hinter:
			from = append(from, peer)
		case peer.Cluster == id.Cluster:
			sibling = append(sibling, peer)
		default:
			other = append(other, peer)
		}
	}
	return slices.Concat(from, sibling[:min(len(sibling), 1)], other[:min(len(other), 1)])
}
