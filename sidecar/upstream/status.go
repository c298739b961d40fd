package upstream

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// ClusterStatus is a cluster for people to look at.
type ClusterStatus struct {
	LocalShare float64  // of the traffic, 0 to 1
	Hosts      []Status // local ones first, by address
	Avoided    []string // remote instances, cluster/instance
}

// Status is a host for people to look at.
type Status struct {
	Address    string
	Instance   string // empty for a gateway
	Gateway    bool
	Ready      bool // as the control plane says
	Weight     uint32
	Active     int64         // picks without Done
	Idle       int           // pooled connections
	Latency    time.Duration // moving average, 0: unknown
	EjectedFor time.Duration // left, at least 1 ms while ejected
	LastError  string        // why a connection or an exchange failed last
}

// Status returns the cluster as it is now.
func (c *Cluster) Status() ClusterStatus {
	now := c.env.now()
	s := ClusterStatus{LocalShare: c.state.Load().share.at(now)}
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
			Gateway:   h.key.gateway,
			Ready:     h.ready,
			Weight:    h.weight.Load(),
			Active:    h.active.Load(),
			Idle:      h.pool.len(),
			LastError: h.lastError,
		}
		if l, ok := h.latency.at(now); ok {
			st.Latency = time.Duration(l)
		}
		if h.outlier.ejected() {
			st.EjectedFor = max(h.outlier.until.since(now), time.Millisecond)
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
