package core

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// refuse says of which gateways nothing is taken: those whose cluster has the name of
// one that was founded earlier. As long as a gateway of the earlier cluster is known,
// be it out of reach, the name is that cluster's: every gateway that knows both decides
// the same. Of the own cluster others are refused on either side, and when the own one
// is the later, this gateway itself is.
func (c *Core) refuse() {
	self := c.cfg.Self
	first := map[mesh.ClusterName]identity.Founding{}
	add := func(cluster mesh.ClusterName, f identity.Founding) {
		if was := first[cluster]; !f.IsZero() && (was.IsZero() || f.Compare(was) < 0) {
			first[cluster] = f
		}
	}
	add(self.Cluster, c.founding)
	for id, k := range c.gateways.known {
		add(id.Cluster, k.Founding)
	}
	refused := map[mesh.GatewayID]string{}
	judge := func(id mesh.GatewayID, f, right identity.Founding) {
		if !f.IsZero() && !right.IsZero() && f != right {
			refused[id] = fmt.Sprintf("another cluster is called %s: this gateway's was founded %s, the other %s", id.Cluster, f, right)
		}
	}
	judge(self, c.founding, first[self.Cluster])
	for id, k := range c.gateways.known {
		if id.Cluster == self.Cluster {
			judge(id, k.Founding, c.founding)
		} else {
			judge(id, k.Founding, first[id.Cluster])
		}
	}
	for _, id := range sortIDs(slices.Collect(maps.Keys(refused))) {
		if c.refused[id] == "" {
			c.note(slog.LevelError, "two clusters have one name, nothing is sent to the later one: give it another name, or forget the earlier one's gateways with isthmus forget if they are gone",
				"gateway", id.String(), "err", refused[id])
		}
	}
	for _, id := range sortIDs(slices.Collect(maps.Keys(c.refused))) {
		if refused[id] == "" {
			c.note(slog.LevelInfo, "gateway is refused no more", "gateway", id.String())
		}
	}
	c.refused = refused
}
