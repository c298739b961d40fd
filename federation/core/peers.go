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

// Peer is a gateway that there is or was a tunnel to.
type Peer struct {
	Gateway mesh.GatewayID
	Addr    string // where its packets last came from
	Left    bool   // it said that it leaves, and has not come back
	LastErr string // why the tunnel is down
	// Founding is that of its cluster, as its certificate says.
	Founding identity.Founding
	Tunnel
}

// peer is a Peer and what was told to it and asked of it.
type peer struct {
	Peer
	syncing      bool
	asked        time.Time // when the last sync began
	synced       time.Time
	retry        time.Time // not before
	fault        string    // of the last failed sync that was logged; empty: the last one succeeded
	faultLogged  time.Time
	ackedVersion catalog.Version
}

type peers map[mesh.GatewayID]*peer

// up reports whether there is a live tunnel to the gateway.
func (ps peers) up(id mesh.GatewayID) bool {
	p := ps[id]
	return p != nil && p.Up
}

// Connected returns the gateways that a live tunnel leads to, sorted.
func (c *Core) Connected() []mesh.GatewayID {
	var ids []mesh.GatewayID
	for id, p := range c.gateways.peers {
		if p.Up {
			ids = append(ids, id)
		}
	}
	return sortIDs(ids)
}

// Tunnels are all peers, as the tunnel says.
type Tunnels []Peer

func (in Tunnels) apply(c *Core, now time.Time) {
	gone := make(map[mesh.GatewayID]bool, len(c.gateways.peers))
	for id := range c.gateways.peers {
		gone[id] = true
	}
	for _, p := range in {
		if p.Gateway == c.cfg.Self {
			continue
		}
		delete(gone, p.Gateway)
		was := c.gateways.peers[p.Gateway]
		if was == nil {
			was = &peer{}
			c.gateways.peers[p.Gateway] = was
			c.viewChanged = true
		}
		if p.Up != was.Up || !p.Since.Equal(was.Since) {
			// A new process, perhaps: it knows nothing of what the old one was told.
			*was = peer{syncing: was.syncing}
			if o := c.origins[p.Gateway]; o != nil && p.Up {
				o.failures, o.retry = 0, time.Time{} // now the origin itself can be asked
			}
			if p.Up {
				c.note(slog.LevelInfo, "gateway is connected", "gateway", p.Gateway.String(), "peer_addr", p.Addr)
			} else {
				c.note(slog.LevelInfo, "gateway is out of reach", "gateway", p.Gateway.String(), "left", p.Left, "err", p.LastErr)
			}
		}
		if p.Tunnel != was.Tunnel {
			c.viewChanged = true
		}
		was.Peer = p
		if k, ok := c.gateways.known[p.Gateway]; p.Up && (!ok || !p.Founding.IsZero() && k.Founding != p.Founding) {
			k.Founding, k.Seen = p.Founding, now
			c.keepKnown(p.Gateway, k)
			c.rememberHint(p.Gateway, now)
		}
	}
	for id := range gone {
		delete(c.gateways.peers, id)
		c.viewChanged = true
	}
}

// startSyncs returns whom to ask for versions: live peers that have to be joined, or
// asked again. Of too many, those that were not asked for the longest time.
func (c *Core) startSyncs(now time.Time) []mesh.GatewayID {
	every := max(syncInterval, time.Duration(len(c.gateways.peers))*syncShare)
	var due, started []mesh.GatewayID
	running, cluster := 0, map[mesh.ClusterName]int{}
	for id, p := range c.gateways.peers {
		if p.syncing {
			running++
			cluster[id.Cluster]++
		}
		if p.syncing || !p.Up || c.leaving || now.Before(p.retry) {
			continue
		}
		if c.MustJoin(id, now) || now.Sub(p.synced) >= every {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b mesh.GatewayID) int {
		return cmp.Or(c.gateways.peers[a].asked.Compare(c.gateways.peers[b].asked), a.Compare(b))
	})
	for _, id := range due {
		if running < maxSyncs && cluster[id.Cluster] < maxClusterSyncs {
			running++
			cluster[id.Cluster]++
			c.gateways.peers[id].syncing, c.gateways.peers[id].asked = true, now
			started = append(started, id)
		}
	}
	return started
}

// Synced is the end of a sync with a gateway, started by Actions.Sync: what it
// holds, and where other gateways and the sidecars of its cluster find it, or why that
// is not known.
type Synced struct {
	Gateway     mesh.GatewayID
	Origins     []catalog.Head
	Advertise   string
	MeshAddress string
	Err         error
}

func (in Synced) apply(c *Core, now time.Time) {
	if in.Err == nil {
		if k, ok := c.gateways.known[in.Gateway]; ok && (k.Advertise != in.Advertise || k.MeshAddress != in.MeshAddress) {
			k.Advertise, k.MeshAddress, k.Seen = in.Advertise, in.MeshAddress, now
			c.keepKnown(in.Gateway, k)
		}
		for _, h := range in.Origins {
			if h.Origin == c.cfg.Self {
				c.hearOwn(h, in.Gateway, now)
			} else {
				c.hear(h, in.Gateway, now)
			}
		}
	}
	p := c.gateways.peers[in.Gateway]
	if p == nil {
		return
	}
	p.syncing = false
	if in.Err == nil {
		p.synced = now
		if p.fault != "" {
			c.note(slog.LevelInfo, "sync with a gateway succeeds again", "gateway", in.Gateway.String())
		}
		p.fault = ""
	} else if why := in.Err.Error(); p.Up && (p.fault == "" || why != p.fault && now.Sub(p.faultLogged) >= faultInterval) {
		p.fault, p.faultLogged = why, now
		c.note(slog.LevelWarn, "sync with a gateway", "gateway", in.Gateway.String(), "err", in.Err)
	}
	if in.Err != nil || c.MustJoin(in.Gateway, now) { // memberlist was told, and did not take it
		p.retry = c.retryAfter(now, 1)
	}
}
