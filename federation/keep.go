package federation

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
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

// forgetLocked drops gateways that have left and what is older than anybody
// should ask for.
func (f *Federation) forgetLocked(now time.Time) {
	left := func(id mesh.GatewayID) bool {
		m, p := f.members[id], f.peers[id]
		if p != nil && p.State == tunnel.Up {
			return false
		}
		if m != nil && !m.alive && m.meta.Leaving {
			return true
		}
		// It said so when it closed the tunnel, and has not joined since.
		return p != nil && p.Left && (m == nil || !m.alive || m.since.Before(p.Since))
	}
	for _, id := range f.knownLocked() {
		if left(id) {
			f.log.Info("gateway has left", "peer", id.String())
			f.dropLocked(id)
		}
	}
	for id, o := range f.origins {
		if o.state != nil && o.stale && now.Sub(o.confirmed) > staleAfter {
			f.log.Warn("catalog forgotten: its gateway was out of reach for too long", "peer", id.String(), "age", now.Sub(o.confirmed))
			o.state, o.exports = nil, nil
			f.dirty.origins[id], f.viewDirty = true, true
		}
		if o.state == nil && now.Sub(o.confirmed) > floorAfter {
			delete(f.origins, id)
			f.dirty.origins[id] = true
		}
	}
	for id, r := range f.remembered {
		m, p := f.members[id], f.peers[id]
		if m != nil && m.alive || p != nil && p.State == tunnel.Up {
			if now.Sub(r.Seen) > confirmInterval {
				r.Seen = now
				f.remembered[id] = r
				f.dirty.gateways[id] = true
			}
		} else if now.Sub(r.Seen) > staleAfter {
			delete(f.remembered, id)
			f.dirty.gateways[id], f.viewDirty = true, true
		}
	}
	if len(f.dirty.origins)+len(f.dirty.gateways) > 0 {
		kick(f.storeKick)
	}
}

// knownLocked returns the gateways of which anything but a floor is held.
func (f *Federation) knownLocked() []mesh.GatewayID {
	ids := make(map[mesh.GatewayID]bool, len(f.members))
	for id, o := range f.origins {
		if o.state != nil {
			ids[id] = true
		}
	}
	for id := range f.members {
		ids[id] = true
	}
	for id := range f.remembered {
		ids[id] = true
	}
	return slices.Collect(maps.Keys(ids))
}

// dropLocked forgets a gateway, but for the version that its records must exceed.
func (f *Federation) dropLocked(id mesh.GatewayID) {
	now := time.Now()
	if o := f.origins[id]; o != nil {
		o.state, o.exports, o.announced, o.confirmed = nil, nil, catalog.Head{}, now
		f.dirty.origins[id] = true
	}
	delete(f.members, id)
	delete(f.remembered, id)
	f.dirty.gateways[id], f.viewDirty = true, true
}

// confirmLocked says of every catalog whether it is up to date.
func (f *Federation) confirmLocked(now time.Time) {
	for id, o := range f.origins {
		m, p := f.members[id], f.peers[id]
		reachable := m != nil && m.alive || p != nil && p.State == tunnel.Up
		stale := !reachable || o.state == nil || o.announced.Compare(o.state.Head()) > 0
		if stale == o.stale {
			continue
		}
		o.stale, f.viewDirty = stale, true
		if stale {
			o.confirmed = now
			f.dirty.confirm = true
		}
	}
	if now.Sub(f.confirmed) >= confirmInterval || f.dirty.confirm {
		f.confirmed, f.dirty.confirm = now, true
		kick(f.storeKick)
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

// mustJoinLocked reports whether gossip has lost or not yet found the gateway.
// memberlist does not look for the dead by itself for longer than
// gossipToTheDead, so tunnels, which do, tell it.
func (f *Federation) mustJoinLocked(id mesh.GatewayID) bool {
	m := f.members[id]
	return m == nil || !m.alive && !m.meta.Leaving
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

// hurryLocked returns the gateways that gossip has found alive again and that no
// tunnel leads to: after a partition the first pair to meet tells the others, who
// need not wait out their own backoff.
func (f *Federation) hurryLocked() []mesh.GatewayID {
	var hurry []mesh.GatewayID
	for id, m := range f.members {
		if !m.hurry {
			continue
		}
		m.hurry = false
		if p := f.peers[id]; p != nil && p.State != tunnel.Up {
			hurry = append(hurry, id)
		}
	}
	return hurry
}

// targetsLocked returns every address to keep a tunnel to: the configured ones,
// where any gateway may answer, and where each known gateway was last seen.
func (f *Federation) targetsLocked() []tunnel.Target {
	used := make(map[string]bool)
	var targets []tunnel.Target
	for _, a := range f.cfg.Join {
		if a != "" && a != f.cfg.Advertise && !used[a] {
			used[a] = true
			targets = append(targets, tunnel.Target{Addr: a})
		}
	}
	type seen struct {
		target tunnel.Target
		alive  bool
		at     time.Time
	}
	var all []seen
	for id, r := range f.remembered {
		m := f.members[id]
		all = append(all, seen{tunnel.Target{Addr: r.Advertise, Gateway: id}, m != nil && m.alive, r.Seen})
	}
	// Of two gateways seen at one address the present one is dialled.
	slices.SortFunc(all, func(a, b seen) int {
		if a.alive != b.alive {
			if a.alive {
				return -1
			}
			return 1
		}
		return cmp.Or(b.at.Compare(a.at), compareID(a.target.Gateway, b.target.Gateway))
	})
	for _, s := range all {
		if a := s.target.Addr; a != "" && a != f.cfg.Advertise && !used[a] {
			used[a] = true
			targets = append(targets, s.target)
		}
	}
	slices.SortFunc(targets, func(a, b tunnel.Target) int { return cmp.Compare(a.Addr, b.Addr) })
	return targets
}

// watchTunnels keeps f.peers what the tunnel says.
func (f *Federation) watchTunnels(ctx context.Context) {
	for {
		peers, past := f.cfg.Tunnel.Peers()
		f.mu.Lock()
		for _, p := range peers {
			if p.Gateway == f.cfg.Self {
				continue
			}
			was := f.peers[p.Gateway]
			if was == nil {
				was = &peer{}
				f.peers[p.Gateway] = was
			}
			if p.State != was.State || !p.Since.Equal(was.Since) {
				// A new process, perhaps: it knows nothing of what the old one was told.
				was.synced, was.retry, was.rung, was.noted = time.Time{}, time.Time{}, nil, catalog.Version{}
				if o := f.origins[p.Gateway]; o != nil && p.State == tunnel.Up {
					o.failures, o.retry = 0, time.Time{} // now the origin itself can be asked
				}
				f.logPeer(&p)
			}
			was.Peer = p
		}
		gone := maps.Clone(f.peers)
		for _, p := range peers {
			delete(gone, p.Gateway)
		}
		for id := range gone {
			delete(f.peers, id)
		}
		f.viewDirty = true
		f.mu.Unlock()
		kick(f.stepKick)
		select {
		case <-ctx.Done():
			return
		case <-past:
		}
	}
}

func (f *Federation) logPeer(p *tunnel.Peer) {
	if p.State == tunnel.Up {
		f.log.Info("gateway is connected", "peer", p.Gateway.String(), "addr", p.Addr)
		return
	}
	f.log.Info("gateway is out of reach", "peer", p.Gateway.String(), "left", p.Left, "err", p.LastError)
}

// backoff returns how long to wait after so many failures in a row: doubling,
// and spread so that many do not come back at once.
func backoff(failures int) time.Duration {
	d := min(retryMin<<min(failures-1, 10), retryMax)
	return d/2 + rand.N(d/2+1)
}
