package core

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var (
	self   = gw("east", "east-1")
	others = []mesh.GatewayID{gw("east", "east-2"), gw("north", "north-1"), gw("south", "south-1"), gw("west", "west-1"), gw("west", "west-2"), gw("west", "west-3")}
	joined = []string{"join:1", "join:2"}
)

func addressOf(id mesh.GatewayID) string { return id.String() + ":7443" }

// histories has every state that each origin ever says it has: three processes one
// after the other, and a double that says something else under the same versions.
var histories = func() map[mesh.GatewayID][]*catalog.State {
	all := make(map[mesh.GatewayID][]*catalog.State)
	for _, id := range others {
		for epoch := range uint64(3) {
			for double := range uint32(2) {
				s := catalog.New(id, epoch+1)
				for ready := range uint32(3) {
					next, err := s.Next([]mesh.Export{serving(id.Cluster, "shop/orders", 10*double+ready)})
					if err != nil {
						panic(err)
					}
					s = next
					all[id] = append(all[id], s)
				}
			}
		}
	}
	return all
}()

// model is what a naive reader of the rules in doc.go would keep. It knows nothing
// of how Core decides, only what may not and what must be.
type model struct {
	*rapid.T
	core *Core
	now  time.Time

	heard   map[mesh.GatewayID]bool
	held    map[mesh.GatewayID]catalog.Head
	floor   map[mesh.GatewayID]catalog.Version
	gossip  map[mesh.GatewayID]Gossip
	proved  map[mesh.GatewayID]bool // it was connected, and is not forgotten
	peers   map[mesh.GatewayID]Peer
	fresh   map[mesh.GatewayID]time.Time // when its catalog was last shown as up to date, or first heard of
	pulls   []Pull                       // in flight
	syncs   []mesh.GatewayID             // in flight
	retry   map[mesh.GatewayID]time.Time // no pull before: it failed and nothing was heard since
	targets []Target
	leaving bool
}

func newModel(t *rapid.T) *model {
	m := &model{
		T: t, now: time.Unix(1_800_000_000, 0),
		heard: map[mesh.GatewayID]bool{}, held: map[mesh.GatewayID]catalog.Head{}, floor: map[mesh.GatewayID]catalog.Version{},
		gossip: map[mesh.GatewayID]Gossip{}, proved: map[mesh.GatewayID]bool{}, peers: map[mesh.GatewayID]Peer{}, fresh: map[mesh.GatewayID]time.Time{}, retry: map[mesh.GatewayID]time.Time{},
	}
	random := rapid.Int64Range(0, 1<<40)
	m.core = New(Config{Self: self, Advertise: addressOf(self), Join: joined, Random: func(n int64) int64 { return random.Draw(t, "random") % n }})
	return m
}

func (m *model) apply(in Input) { m.core.Apply(m.now, in) }

func (m *model) oneOf(ids []mesh.GatewayID) mesh.GatewayID {
	return rapid.SampledFrom(ids).Draw(m.T, "gateway")
}

func (m *model) stateOf(id mesh.GatewayID) *catalog.State {
	return rapid.SampledFrom(histories[id]).Draw(m.T, "state")
}

func (m *model) hear(id mesh.GatewayID) {
	if !m.heard[id] {
		m.heard[id], m.fresh[id] = true, m.now
	}
	delete(m.retry, id)
}

// tunnelChanges brings a tunnel up or down, now and then by a farewell.
func (m *model) tunnelChanges() {
	id := m.oneOf(others)
	p := m.peers[id]
	p.Gateway, p.Addr, p.Since, p.Up = id, addressOf(id), m.now, !p.Up
	p.Left = !p.Up && rapid.Bool().Draw(m.T, "left")
	m.peers[id] = p
	m.proved[id] = m.proved[id] || p.Up
	delete(m.retry, id)
	var all Tunnels
	for _, p := range m.peers {
		all = append(all, p)
	}
	m.apply(all)
}

func (m *model) gossipTells() {
	g := Gossip{Gateway: m.oneOf(others), Alive: rapid.Bool().Draw(m.T, "alive"), Known: true}
	h := m.stateOf(g.Gateway).Head()
	g.Meta = Meta{Version: h.Version, Digest: h.Digest, Advertise: addressOf(g.Gateway)}
	if _, known := m.gossip[g.Gateway]; g.Alive || known {
		m.gossip[g.Gateway] = g
	}
	if g.Alive && m.proved[g.Gateway] {
		m.hear(g.Gateway)
	}
	m.apply(g)
}

// syncEnds ends one of the syncs in flight, with news or an error.
func (m *model) syncEnds() {
	if len(m.syncs) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.syncs)-1).Draw(m.T, "sync")
	in := Synced{Gateway: m.syncs[i]}
	m.syncs = slices.Delete(m.syncs, i, i+1)
	if rapid.Bool().Draw(m.T, "failed") {
		in.Err = fmt.Errorf("out of reach")
	} else {
		in.Advertise = addressOf(in.Gateway)
		for range rapid.IntRange(0, 3).Draw(m.T, "heads") {
			h := m.stateOf(m.oneOf(others)).Head()
			in.Origins = append(in.Origins, h)
			m.hear(h.Origin)
		}
	}
	m.apply(in)
}

// pullEnds ends one of the pulls in flight: by an error, or with any state that the
// origin ever had, however old.
func (m *model) pullEnds() {
	if len(m.pulls) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.pulls)-1).Draw(m.T, "pull")
	p := m.pulls[i]
	m.pulls = slices.Delete(m.pulls, i, i+1)
	if rapid.Bool().Draw(m.T, "failed") {
		m.retry[p.Origin] = m.now.Add(minRetry / 2)
		m.apply(Pulled{Pull: p, Failed: true})
		return
	}
	s := m.stateOf(p.Origin)
	m.receive(s)
	done := Pulled{Pull: p}
	if rapid.Bool().Draw(m.T, "from the origin") {
		h := s.Head()
		done.Is = &h
	}
	m.apply(done)
}

// receive takes what wins and compares.
func (m *model) receive(s *catalog.State) {
	h := s.Head()
	held, holds := m.held[h.Origin]
	if m.heard[h.Origin] && (holds && h.Compare(held) > 0 || !holds && h.Version.Compare(m.floor[h.Origin]) > 0) {
		m.held[h.Origin], m.floor[h.Origin] = h, h.Version
	}
	m.apply(Received{State: s, Exports: s.Exports()})
	m.compareHeld(h.Origin)
}

func (m *model) compareHeld(id mesh.GatewayID) {
	var got catalog.Head
	if s, _ := m.core.Held(id); s != nil {
		got = s.Head()
	}
	if got != m.held[id] {
		m.Fatalf("holds %v of %s, want %v", got, id, m.held[id])
	}
}

// timePasses, sometimes days.
func (m *model) timePasses() {
	m.now = m.now.Add(rapid.SampledFrom([]time.Duration{time.Millisecond, 100 * time.Millisecond, time.Second, 15 * time.Second, time.Hour, 40 * time.Hour}).Draw(m.T, "time"))
}

// hasLeft: it said so at the end of its tunnel, and has no tunnel.
func (m *model) hasLeft(id mesh.GatewayID) bool { return !m.peers[id].Up && m.peers[id].Left }

func (m *model) step() {
	a := m.core.Step(m.now)
	m.checkForgotten()
	m.checkPulls(a.Pull)
	for _, id := range a.Sync {
		if slices.Contains(m.syncs, id) || !m.peers[id].Up {
			m.Fatalf("asks %s, with these asked already: %v", id, m.syncs)
		}
		m.syncs = append(m.syncs, id)
	}
	if a.Targets != nil {
		m.targets = a.Targets
	}
	v := m.core.View()
	m.checkView(v)
	for _, o := range v.Origins {
		if !o.Stale {
			m.fresh[o.ID] = m.now
		}
	}
	if m.leaving && len(a.Pull)+len(a.Sync) > 0 {
		m.Fatalf("a gateway that leaves starts %+v", a)
	}
}

// checkPulls: one of an origin at a time, not too many, from who can be reached, of
// what may be newer, and not at once after a failure.
func (m *model) checkPulls(pulls []Pull) {
	for _, p := range pulls {
		if slices.ContainsFunc(m.pulls, func(q Pull) bool { return q.Origin == p.Origin }) {
			m.Fatalf("pulls %s a second time", p.Origin)
		}
		m.pulls = append(m.pulls, p)
		if len(m.pulls) > maxPulls {
			m.Fatalf("%d pulls at once", len(m.pulls))
		}
		if len(p.From) == 0 || slices.ContainsFunc(p.From, func(id mesh.GatewayID) bool { return !m.peers[id].Up }) {
			m.Fatalf("pulls from %v, of which some are out of reach", p.From)
		}
		if p.Have != m.held[p.Origin] && m.held[p.Origin] != (catalog.Head{}) || p.Announced.Version.Compare(m.floor[p.Origin]) < 0 {
			m.Fatalf("pulls %v, holding %v at floor %v", p, m.held[p.Origin], m.floor[p.Origin])
		}
		if m.now.Before(m.retry[p.Origin]) {
			m.Fatalf("pulls %s again at once", p.Origin)
		}
	}
}

// checkForgotten: who has left is gone; nobody else is before staleAfter.
func (m *model) checkForgotten() {
	for _, id := range others {
		s, _ := m.core.Held(id)
		_, held := m.held[id]
		if s == nil && held {
			if !m.hasLeft(id) && m.now.Sub(m.fresh[id]) <= staleAfter {
				m.Fatalf("%s is forgotten %v after it was up to date", id, m.now.Sub(m.fresh[id]))
			}
			delete(m.held, id)
		}
		if m.hasLeft(id) && !m.gossip[id].Alive && s != nil {
			m.Fatalf("%s has left and its catalog is there", id)
		}
		if m.core.gateways.members[id] == nil {
			delete(m.gossip, id)
		}
		m.proved[id] = m.core.gateways.proved(id)
		m.compareHeld(id)
	}
}

// checkView: nobody is routed to without a live tunnel and a catalog that offers
// the service, and every address shown is dialled.
func (m *model) checkView(v *View) {
	for _, service := range v.Services() {
		for _, x := range v.Exports(service) {
			for _, id := range x.Gateways {
				if s, _ := m.core.Held(id); s == nil || !m.peers[id].Up || id.Cluster != x.Cluster {
					m.Fatalf("routes %s to %s: tunnel %+v, catalog %v", service, id, m.peers[id].Tunnel, s)
				}
			}
		}
	}
	want := slices.Clone(joined)
	for _, g := range v.Gateways {
		if g.Advertise != "" && g.ID != self {
			want = append(want, g.Advertise)
		}
	}
	var got []string
	for _, t := range m.targets {
		got = append(got, t.Addr)
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		m.Fatalf("tunnels are kept to %v, want %v", got, want)
	}
}

func TestCoreKeepsTheRulesWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		acts := map[string]func(){
			"a tunnel changes": m.tunnelChanges, "gossip tells": m.gossipTells, "a sync ends": m.syncEnds, "a pull ends": m.pullEnds,
			"a pull ends again": m.pullEnds, "time passes": m.timePasses,
			"an unasked catalog": func() { m.receive(m.stateOf(m.oneOf(others))) },
			"this gateway leaves": func() {
				if rapid.IntRange(0, 20).Draw(m.T, "really") == 0 {
					m.leaving = true
					m.apply(Leave{})
				}
			},
			"the state file is behind": func() {
				if ch := m.core.Unsaved(m.now); rapid.Bool().Draw(m.T, "full") {
					m.apply(NotSaved{ch})
				}
			},
		}
		names := make([]string, 0, len(acts))
		for name := range acts {
			names = append(names, name)
		}
		slices.Sort(names)
		for range rapid.IntRange(1, 120).Draw(t, "length") {
			acts[rapid.SampledFrom(names).Draw(t, "act")]()
			if rapid.IntRange(0, 2).Draw(t, "step") > 0 {
				m.step()
			}
		}
	})
}

// TestWhatWasSavedIsKnownAfterARestart compares a core that was restored from all
// its saved changes with the one that made them.
func TestWhatWasSavedIsKnownAfterARestart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		file := Restored{Origins: map[mesh.GatewayID]SavedOrigin{}, Confirmed: map[mesh.GatewayID]time.Time{}, Gateways: map[mesh.GatewayID]KnownGateway{}}
		for range rapid.IntRange(1, 60).Draw(t, "length") {
			for _, act := range rapid.SampledFrom([][]func(){{m.tunnelChanges}, {m.gossipTells}, {m.pullEnds}, {m.syncEnds}, {m.timePasses}}).Draw(t, "act") {
				act()
			}
			m.step()
			ch := m.core.Unsaved(m.now)
			if rapid.IntRange(0, 4).Draw(t, "disk full") == 0 {
				m.apply(NotSaved{ch})
				continue
			}
			write(&file, ch)
		}
		write(&file, m.core.Unsaved(m.now))
		again := New(m.core.cfg)
		again.Apply(m.now, file)
		for _, id := range others {
			was, _ := m.core.Held(id)
			is, _ := again.Held(id)
			if was != is {
				t.Fatalf("%s: held %v, restored %v", id, was, is)
			}
			if o := m.core.origins[id]; o != nil && again.origins[id] != nil && o.floor != again.origins[id].floor {
				t.Fatalf("%s: the floor %v became %v", id, o.floor, again.origins[id].floor)
			}
			if m.core.gateways.known[id].Advertise != again.gateways.known[id].Advertise {
				t.Fatalf("%s: the address %q became %q", id, m.core.gateways.known[id].Advertise, again.gateways.known[id].Advertise)
			}
		}
	})
}

// write is a state file.
func write(file *Restored, ch *Changes) {
	for id, o := range ch.Origins {
		if delete(file.Origins, id); o != nil {
			s := *o
			if s.State != nil {
				s.Exports = s.State.Exports()
			}
			file.Origins[id] = s
		}
	}
	for id, at := range ch.Confirmed {
		file.Confirmed[id] = at
	}
	for id, k := range ch.Gateways {
		if delete(file.Gateways, id); k != nil {
			file.Gateways[id] = *k
		}
	}
}
