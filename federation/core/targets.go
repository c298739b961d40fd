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
	all := make([]seen, 0, len(c.gateways.known))
	for id, k := range c.gateways.known {
		s := seen{Target{k.Advertise, id}, 1, k.Seen}
		if c.gateways.members.alive(id) {
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
	for _, id := range c.gateways.hints(now) {
		add(Target{c.gateways.members[id].meta.Advertise, id})
	}
	slices.SortFunc(targets, func(a, b Target) int { return cmp.Compare(a.Addr, b.Addr) })
	if c.targets != nil && slices.Equal(targets, c.targets) {
		return nil
	}
	c.targets = targets
	return targets
}
