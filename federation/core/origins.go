package core

import (
	"cmp"
	"log/slog"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// origin is what is held of another gateway's catalog.
type origin struct {
	state     *catalog.State // nil: nothing, or forgotten
	signature identity.Signature
	signer    identity.Peer
	exports   []mesh.Export // of state, those that the signer's cluster may offer
	leftOut   []LeftOut     // of state, the others
	taken     []mesh.Export // of exports, what this gateway imports
	reported  time.Time     // when leftOut was last logged
	// floor is the newest version ever accepted: nothing older is, even when the
	// state was forgotten.
	floor catalog.Version
	// announced is the newest head heard of, which gossip does not prove; heardFrom
	// is who listed it, and when.
	announced catalog.Head
	heardFrom mesh.GatewayID
	heardAt   time.Time

	stale     bool
	confirmed time.Time // while stale: when it last was not

	tooLarge bool // the last pull ended with too much for its cluster
	failures int
	retry    time.Time // not before

	pulling mesh.GatewayID // who is asked for it first; zero: it is not being pulled, and may go
}

// head returns what is held; the zero Head is older than everything.
func (o *origin) head() catalog.Head {
	if o.state == nil {
		return catalog.Head{}
	}
	return o.state.Head()
}

// admits reports whether a version may come in: nothing below the floor, and of
// what was forgotten nothing at it.
func (o *origin) admits(v catalog.Version) bool {
	c := v.Compare(o.floor)
	return c > 0 || c == 0 && o.state != nil
}

// due reports whether something newer than what is held was announced and may be
// asked for now.
func (o *origin) due(now time.Time) bool {
	return o.announced.Version.Seq > 0 && !now.Before(o.retry) && o.announced.Compare(o.head()) > 0 && o.admits(o.announced.Version)
}

// hear takes note that somebody says an origin is at a head. Nothing of it is
// proved, so it only makes us look.
func (c *Core) hear(h catalog.Head, from mesh.GatewayID, now time.Time) {
	if ahead(h.Version, now) {
		return // whoever wrote it: it would not be taken
	}
	o := c.origins[h.Origin]
	if o == nil {
		victim, ok := c.origins.roomFor(h.Origin, from)
		if !ok {
			return
		}
		if !victim.IsZero() {
			delete(c.origins, victim)
			c.unsaved.origins[victim] = true
		}
		o = &origin{confirmed: now, stale: true}
		c.origins[h.Origin] = o
	}
	switch newer := h.Compare(o.announced); {
	case newer > 0:
		o.failures = 0
	case newer == 0 && from != h.Origin && from != o.heardFrom: // it holds what we may still be looking for, or lies as well
	default:
		return
	}
	o.announced, o.heardFrom, o.heardAt = h, from, now
	o.retry = time.Time{}
}

// ahead reports whether an epoch is so far in the future that the version is refused.
func ahead(v catalog.Version, now time.Time) bool {
	return v.Epoch > uint64(max(now.Add(MaxAhead).UnixMilli(), 0))
}

type origins map[mesh.GatewayID]*origin

// roomFor reports whether there is room for an origin that somebody says is there, and
// which has to go for it; zero: none.
// Names cost nothing to make up, and gateways nothing to who holds a cluster's key: of
// each cluster so many are known, and so many that a cluster tells of and that nobody
// has proved. Those that nothing was ever accepted of go first, then those that have left.
func (os origins) roomFor(id, from mesh.GatewayID) (victim mesh.GatewayID, ok bool) {
	ofCluster, told := 0, 0
	for other, o := range os {
		if other.Cluster == id.Cluster {
			ofCluster++
		}
		if o.floor == (catalog.Version{}) && o.heardFrom.Cluster == from.Cluster {
			told++
		}
	}
	switch {
	case ofCluster >= maxClusterOrigins:
		return os.victim(func(other mesh.GatewayID, _ *origin) bool { return other.Cluster == id.Cluster })
	case told >= maxTold:
		return os.victim(func(_ mesh.GatewayID, o *origin) bool {
			return o.floor == (catalog.Version{}) && o.heardFrom.Cluster == from.Cluster
		})
	case len(os) >= MaxGateways:
		return os.victim(func(_ mesh.GatewayID, o *origin) bool { return o.floor == (catalog.Version{}) })
	}
	return mesh.GatewayID{}, true
}

// victim returns one of the origins that may go and that nothing is held of.
func (os origins) victim(may func(mesh.GatewayID, *origin) bool) (victim mesh.GatewayID, ok bool) {
	var was *origin
	for id, o := range os {
		if o.state != nil || !o.pulling.IsZero() || !may(id, o) {
			continue
		}
		if was == nil || cmp.Or(o.floor.Compare(was.floor), id.Compare(victim)) < 0 {
			victim, was = id, o
		}
	}
	return victim, was != nil
}

// Pull is a catalog to fetch: since Have, from the first of From that has it.
type Pull struct {
	Origin    mesh.GatewayID
	Have      catalog.Head // zero: nothing
	Announced catalog.Head // what is expected; not proved
	From      []mesh.GatewayID
	Failures  int // in a row before this
}

// startPulls returns the catalogs to fetch that are announced newer than held, who
// was announced first first. No peer is asked for two at a time, and of one cluster few:
// who answers slowly, or with what is not right, holds up its own.
func (c *Core) startPulls(now time.Time) []Pull {
	if c.leaving {
		return nil
	}
	running, peers, clusters := 0, map[mesh.GatewayID]bool{}, map[mesh.ClusterName]int{} // that are asked
	var due []mesh.GatewayID
	for id, o := range c.origins {
		if from := o.pulling; !from.IsZero() {
			running++
			peers[from] = true
			clusters[from.Cluster]++
		} else if o.due(now) {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b mesh.GatewayID) int {
		return cmp.Or(c.origins[a].heardAt.Compare(c.origins[b].heardAt), a.Compare(b))
	})
	var pulls []Pull
	for _, id := range due {
		if running >= maxPulls {
			break
		}
		o := c.origins[id]
		from := slices.DeleteFunc(c.gateways.peers.sources(id, o.heardFrom, c.cfg.Random), func(p mesh.GatewayID) bool { return peers[p] })
		if len(from) == 0 || clusters[from[0].Cluster] >= maxClusterPulls {
			continue
		}
		running++
		o.pulling, peers[from[0]] = from[0], true
		clusters[from[0].Cluster]++
		pulls = append(pulls, Pull{id, o.head(), o.announced, from, o.failures})
	}
	return pulls
}

// sources returns whom to pull an origin's catalog from, each with a live tunnel:
// itself, who listed the version, another gateway of its cluster, and somebody
// else, who may have it by now.
func (ps peers) sources(id, heardFrom mesh.GatewayID, random func(int64) int64) []mesh.GatewayID {
	var from, sibling, other []mesh.GatewayID
	for gateway, p := range ps {
		switch {
		case !p.Up:
		case gateway == id:
			from = slices.Insert(from, 0, gateway)
		case gateway == heardFrom:
			from = append(from, gateway)
		case gateway.Cluster == id.Cluster:
			sibling = append(sibling, gateway)
		default:
			other = append(other, gateway)
		}
	}
	return slices.Concat(from, oneOf(sibling, random), oneOf(other, random))
}

// oneOf returns any one of ids.
func oneOf(ids []mesh.GatewayID, random func(int64) int64) []mesh.GatewayID {
	if len(ids) == 0 {
		return nil
	}
	i := random(int64(len(ids)))
	return sortIDs(ids)[i : i+1]
}

// Received is a catalog that came and was verified.
type Received struct {
	State     *catalog.State
	Signature identity.Signature
	Signer    identity.Peer
	Exports   []mesh.Export // of State, as Judge has them
	LeftOut   []LeftOut     // likewise
}

// apply merges the catalog. One that is not newer than what is held changes nothing.
func (in Received) apply(c *Core, now time.Time) {
	h := in.State.Head()
	o := c.origins[h.Origin]
	if o == nil || !o.admits(h.Version) { // forgotten, perhaps meanwhile
		return
	}
	if o.state != nil && catalog.Conflict(o.state.Head(), h) {
		c.conflicts++
		c.note(slog.LevelError, "two catalogs under one version: do two gateways have this name?", "gateway", h.Origin.String(), "version", h.Version.String(),
			"digest", o.state.Head().Digest.String(), "other", h.Digest.String())
	}
	if catalog.Prefer(o.state, in.State) != in.State {
		return
	}
	if c.origins.sizeOf(h.Origin)+in.State.Size() > maxClusterBytes {
		o.tooLarge = true
		c.note(slog.LevelError, "a catalog is left out: its cluster has too much", "gateway", h.Origin.String(), "bytes", in.State.Size(), "limit", maxClusterBytes)
		return
	}
	c.reportLeftOut(in, o, now)
	o.state, o.signature, o.signer, o.floor = in.State, in.Signature, in.Signer, h.Version
	o.exports, o.leftOut = in.Exports, in.LeftOut
	c.takeImports(h.Origin, o)
	if h.Compare(o.announced) > 0 {
		o.announced = h
	}
	c.unsaved.origins[h.Origin], c.viewChanged = true, true
	c.note(slog.LevelDebug, "catalog received", "gateway", h.Origin.String(), "version", h.Version.String(), "digest", h.Digest.String(), "records", in.State.Len())
}

// sizeOf returns the bytes held of the other gateways of an origin's cluster.
func (os origins) sizeOf(origin mesh.GatewayID) (n int) {
	for id, o := range os {
		if id != origin && id.Cluster == origin.Cluster && o.state != nil {
			n += o.state.Size()
		}
	}
	return n
}

// reportLeftOut logs what of a new catalog does not count, unless that was so before or
// was logged a moment ago.
func (c *Core) reportLeftOut(in Received, o *origin, now time.Time) {
	id, leftOut := in.State.Head().Origin, in.LeftOut
	if len(leftOut) == 0 || slices.Equal(leftOut, o.leftOut) || now.Sub(o.reported) < faultInterval {
		return
	}
	o.reported = now
	for _, l := range leftOut[:min(len(leftOut), maxLeftOut)] {
		c.note(slog.LevelWarn, "what a gateway offers is left out", "gateway", id.String(), "service", l.Service.String(), "err", l.Why, "left_out", len(leftOut))
		c.refusals = append(c.refusals, Refusal{in.Signer.ID, l})
	}
}

// Pulled is the end of a Pull.
type Pulled struct {
	Pull   Pull
	Failed bool
	// Is is the origin's own word on where it is; nil: it was not the origin that
	// answered. Unless something else was announced meanwhile it replaces what was
	// announced, which may have been an error or a lie.
	Is *catalog.Head
}

func (in Pulled) apply(c *Core, now time.Time) {
	o := c.origins[in.Pull.Origin]
	if o == nil {
		return
	}
	o.pulling = mesh.GatewayID{}
	if in.Failed || o.tooLarge {
		o.failures++
		if o.tooLarge {
			o.tooLarge, o.failures = false, maxFailures
		}
		o.retry = c.retryAfter(now, o.failures)
		return
	}
	o.failures, o.retry = 0, time.Time{}
	if in.Is != nil && o.announced == in.Pull.Announced {
		o.announced = *in.Is
	}
}

// Heads returns the heads of all catalogs held, the own one first.
func (c *Core) Heads() []catalog.Head {
	heads := []catalog.Head{c.own.State.Head()}
	for _, o := range c.origins {
		if o.state != nil {
			heads = append(heads, o.state.Head())
		}
	}
	return heads
}

// Signatures returns the signature of every catalog held of another gateway.
func (c *Core) Signatures() map[mesh.GatewayID]identity.Signature {
	all := make(map[mesh.GatewayID]identity.Signature, len(c.origins))
	for id, o := range c.origins {
		if o.state != nil {
			all[id] = o.signature
		}
	}
	return all
}

// Held returns the catalog held of an origin; nil: none, or it has said nothing yet.
func (c *Core) Held(id mesh.GatewayID) (*catalog.State, identity.Signature) {
	if id == c.cfg.Self {
		if c.own.State.Head().Version.Seq == 0 {
			return nil, identity.Signature{}
		}
		return c.own.State, c.own.Signature
	}
	if o := c.origins[id]; o != nil && o.state != nil {
		return o.state, o.signature
	}
	return nil, identity.Signature{}
}
