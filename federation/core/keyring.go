package core

import (
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// KeyRing numbers the gossip key ring that this gateway holds; the number grows
// with every change. Every peer is told of it.
type KeyRing struct{ Number uint64 }

func (in KeyRing) apply(c *Core, _ time.Time) { c.keyRing = in.Number }

// KeysTold says that a gateway holds the same ring as we did under a number.
type KeysTold struct {
	Gateway mesh.GatewayID
	Number  uint64
}

func (in KeysTold) apply(c *Core, _ time.Time) {
	if p := c.peers[in.Gateway]; p != nil {
		p.keyRing = in.Number
	}
}

// MustTellKeys reports whether a peer may not have our key ring.
func (c *Core) MustTellKeys(id mesh.GatewayID) bool {
	p := c.peers[id]
	return p != nil && p.keyRing != c.keyRing
}
