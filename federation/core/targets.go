package core

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Target is an address to keep a tunnel to.
type Target struct {
	Addr    string         // host:port
	Gateway mesh.GatewayID // zero: any gateway may answer, as at a join address
}

// Join replaces the configured addresses, where any gateway may answer.
type Join []string

func (j Join) apply(c *Core, _ time.Time) { c.cfg.Join = j }

// Advertise replaces what other gateways dial to reach this one.
type Advertise string

func (a Advertise) apply(c *Core, _ time.Time) {
	c.viewChanged = c.viewChanged || c.cfg.Advertise != string(a)
	c.cfg.Advertise = string(a)
}

// newTargets returns every address to keep a tunnel to, not nil; nil when they are
// the same as the last time. They are the configured ones, where any gateway may
// answer, where each known gateway says that it is, and some of those where gossip
// says that gateways are.
func (c *Core) newTargets(now time.Time) []Target {
	used := map[string]bool{"": true, c.cfg.Advertise: true}
	targets := []Target{}
	add := func(t Target) {
		if !used[t.Addr] {
			used[t.Addr] = true
			targets = append(targets, t)
		}
	}
	for _, a := range c.cfg.Join {
		add(Target{Addr: a})
	}
	type seen struct {
		target Target
		absent int // 1: gossip does not say that it is alive
		at     time.Time
	}
	all := make([]seen, 0, len(c.known))
	for id, k := range c.known {
		s := seen{Target{k.Advertise, id}, 1, k.Seen}
		if c.members.alive(id) {
			s.absent = 0
		}
		all = append(all, s)
	}
	// Of two gateways seen at one address the present one is dialled.
	slices.SortFunc(all, func(a, b seen) int {
		return cmp.Or(cmp.Compare(a.absent, b.absent), b.at.Compare(a.at), a.target.Gateway.Compare(b.target.Gateway))
	})
	for _, s := range all {
		add(s.target)
	}
	for _, id := range c.hints(now) {
		add(Target{c.members[id].meta.Advertise, id})
	}
	slices.SortFunc(targets, func(a, b Target) int { return cmp.Compare(a.Addr, b.Addr) })
	if c.targets != nil && slices.Equal(targets, c.targets) {
		return nil
	}
	c.targets = targets
	return targets
}

// hints returns the members to dial where gossip says that they are, because no tunnel
// leads to them and they have not said it themselves, or are there no more. Who gossips
// such a thing may lie, so there are few places, and they change hands.
func (c *Core) hints(now time.Time) []mesh.GatewayID {
	var waiting []mesh.GatewayID
	for id, m := range c.members {
		if m.alive && m.meta.Advertise != "" && !c.peers.up(id) && c.known[id].Advertise != m.meta.Advertise {
			waiting = append(waiting, id)
		} else {
			m.place = false
		}
	}
	keeps := func(m *member) int {
		if m.place && now.Sub(m.placed) < hintTurn {
			return 0
		}
		return 1
	}
	slices.SortFunc(waiting, func(a, b mesh.GatewayID) int {
		x, y := c.members[a], c.members[b]
		return cmp.Or(cmp.Compare(keeps(x), keeps(y)), x.placed.Compare(y.placed), a.Compare(b))
	})
	var hints []mesh.GatewayID
	cluster := map[mesh.ClusterName]int{}
	for _, id := range waiting {
		m := c.members[id]
		if len(hints) >= maxHints || cluster[id.Cluster] >= maxClusterHints {
			m.place = false
			continue
		}
		if keeps(m) != 0 {
			m.place, m.placed = true, now
		}
		cluster[id.Cluster]++
		hints = append(hints, id)
	}
	return hints
}
