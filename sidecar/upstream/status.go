package upstream

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ClusterStatus is a cluster for people to look at.
type ClusterStatus struct {
	Destination string   `json:"destination"`
	Active      int64    `json:"active"`               // requests running
	LocalShare  float64  `json:"local_share"`          // of the traffic, 0 to 1
	Hosts       []Status `json:"hosts"`                // local ones first, by address
	Avoided     []string `json:"avoided,omitempty"`    // remote instances, cluster/instance
	Identities  []string `json:"identities,omitempty"` // SPIFFE IDs that may answer
	Protocol    string   `json:"protocol,omitempty"`   // of the route
}

// Status is a host for people to look at.
type Status struct {
	Address    string           `json:"address"`
	Instance   string           `json:"instance,omitempty"`
	Cluster    mesh.ClusterName `json:"cluster,omitempty"`
	Gateway    bool             `json:"gateway"`
	Ready      bool             `json:"ready"` // as the control plane says
	Weight     uint32           `json:"weight"`
	Active     int64            `json:"active"`
	Idle       int              `json:"idle"`
	LatencyMS  float64          `json:"latency_ms"`            // moving average, 0: unknown
	EjectedFor float64          `json:"ejected_for,omitempty"` // seconds left, at least 0.001 while ejected
	LastError  string           `json:"last_error,omitempty"`
}

// Status returns all clusters ordered by destination.
func (s *Set) Status() []ClusterStatus {
	clusters := *s.clusters.Load()
	all := make([]ClusterStatus, 0, len(clusters))
	for _, c := range clusters {
		all = append(all, c.Status())
	}
	slices.SortFunc(all, func(a, b ClusterStatus) int { return strings.Compare(a.Destination, b.Destination) })
	return all
}

// Status returns the cluster as it is now.
func (c *Cluster) Status() ClusterStatus {
	now := c.env.now()
	p := c.plan.Load()
	s := ClusterStatus{
		Destination: c.label(),
		Active:      c.active.Load(),
		LocalShare:  c.state.Load().share.at(now),
		Identities:  p.identities,
		Protocol:    string(p.protocol),
	}
	for _, name := range c.far.ejected(now, maxRemotes) {
		s.Avoided = append(s.Avoided, name.String())
	}
	slices.Sort(s.Avoided)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Hosts = make([]Status, 0, len(c.hosts))
	for _, h := range c.hosts {
		st := Status{
			Address:   h.key.addr,
			Instance:  h.key.instance,
			Cluster:   c.env.cfg.Cluster,
			Gateway:   h.key.gateway,
			Ready:     h.ready,
			Weight:    h.weight.Load(),
			Active:    h.active.Load(),
			Idle:      h.pool.len(),
			LastError: h.lastError,
		}
		if l, ok := h.latency.at(now); ok {
			st.LatencyMS = l / float64(time.Millisecond)
		}
		if h.outlier.ejected() {
			st.EjectedFor = max(h.outlier.until.since(now), time.Millisecond).Seconds()
		}
		s.Hosts = append(s.Hosts, st)
	}
	slices.SortFunc(s.Hosts, func(a, b Status) int {
		if a.Gateway != b.Gateway {
			if b.Gateway {
				return -1
			}
			return 1
		}
		return cmp.Or(strings.Compare(a.Address, b.Address), strings.Compare(a.Instance, b.Instance))
	})
	return s
}

// label names the cluster in logs and metrics.
func (c *Cluster) label() string { return c.meters.label }
