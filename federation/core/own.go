package core

import (
	"bytes"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Signed is a new version of the own catalog. It is taken only if the own catalog
// is still Was, from which it was made.
type Signed struct {
	Was *catalog.State
	Now Own
}

func (in Signed) apply(c *Core, _ time.Time) {
	if c.own.State == in.Was {
		c.own, c.viewChanged = in.Now, true
	}
}

// Certificate is the one that this gateway has now, and says which cluster of its name
// that is of.
type Certificate struct {
	Chain    [][]byte // as of [identity.Source.Chain]
	Founding identity.Founding
}

func (in Certificate) apply(c *Core, _ time.Time) {
	c.viewChanged = c.viewChanged || in.Founding != c.founding
	c.certificate, c.founding = in, in.Founding
}

// signed reports whether a signature was made with the certificate. When that ends says
// nothing about it: one that takes the place of one that was revoked may end with it.
func (in Certificate) signed(s identity.Signature) bool {
	return slices.EqualFunc(in.Chain, s.Chain, bytes.Equal)
}

// Leave says that this gateway shuts down. Nothing is pulled and nobody asked any
// more; what others do is still followed.
type Leave struct{}

func (Leave) apply(c *Core, _ time.Time) { c.leaving = true }

// Acked says that a gateway has our catalog at a version.
type Acked struct {
	Gateway mesh.GatewayID
	Version catalog.Version
}

func (in Acked) apply(c *Core, _ time.Time) {
	if p := c.gateways.peers[in.Gateway]; p != nil && in.Version.Compare(p.ackedVersion) > 0 {
		p.ackedVersion = in.Version
	}
}

// Leaving reports whether this gateway shuts down.
func (c *Core) Leaving() bool { return c.leaving }

// Own returns the own catalog.
func (c *Core) Own() Own { return c.own }

// Meta returns what gossip says of this gateway.
func (c *Core) Meta() Meta {
	h := c.own.State.Head()
	return Meta{Version: h.Version, Digest: h.Digest, Advertise: c.cfg.Advertise}
}

// AllAcked reports whether every gateway that is alive and connected has the
// newest own catalog.
func (c *Core) AllAcked() bool {
	v := c.own.State.Head().Version
	for id, p := range c.gateways.peers {
		m := c.gateways.members[id] // who does not gossip does not hear of it in time
		if p.Up && m != nil && m.alive && v.Seq > 0 && p.ackedVersion.Compare(v) < 0 {
			return false
		}
	}
	return true
}

// hearOwn takes note that a gateway says it holds a catalog of ours. A newer one
// than we know of means that our state file was lost and our clock was behind.
func (c *Core) hearOwn(h catalog.Head, from mesh.GatewayID, now time.Time) {
	if c.leaving || ahead(h.Version, now) || h.Version.Seq == 0 || h.Compare(c.own.State.Head()) <= 0 || now.Sub(c.epochMoved) < epochMoveInterval {
		return
	}
	c.epochMoved, c.moveEpoch = now, from
}
