package upstream

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// ServiceStatus is a service for people to look at.
type ServiceStatus struct {
	LocalShare float64      // of the traffic, 0 to 1
	Hosts      []HostStatus // local ones first, by address
	Avoided    []string     // remote instances, cluster/instance
}

// HostStatus is a host for people to look at.
type HostStatus struct {
	Address    string
	Instance   string // empty for a gateway
	Gateway    bool
	Ready      bool // as the control plane says
	Weight     uint32
	Active     int64         // picks without Done
	Idle       int           // pooled connections
	Shared     int           // connections that many requests use at a time
	Streams    int           // of them in use
	Latency    time.Duration // moving average, 0: unknown
	EjectedFor time.Duration // left, at least 1 ms while ejected
	LastError  string        // why a connection or an exchange failed last
}

// Status returns the service as it is now.
func (s *Service) Status() ServiceStatus {
	now := s.shared.now()
	status := ServiceStatus{LocalShare: s.candidates.Load().share.at(now)}
	for _, name := range s.remotes.excluded(now, maxRemotes) {
		status.Avoided = append(status.Avoided, name.String())
	}
	slices.Sort(status.Avoided)
	s.mu.Lock()
	defer s.mu.Unlock()
	status.Hosts = make([]HostStatus, 0, len(s.hosts))
	for _, h := range s.hosts {
		st := HostStatus{
			Address:   h.key.addr,
			Instance:  h.key.instance,
			Gateway:   h.key.gateway,
			Ready:     h.ready,
			Weight:    h.weight.Load(),
			Active:    h.active.Load(),
			Idle:      h.pool.len(),
			LastError: h.lastError,
		}
		st.Shared, st.Streams = h.sharing.count()
		paths, streams := h.pool.inUse()
		st.Shared, st.Streams = st.Shared+paths, st.Streams+streams
		if l, ok := h.latency.at(now); ok {
			st.Latency = time.Duration(l)
		}
		if h.outlier.ejected() {
			st.EjectedFor = max(h.outlier.until.since(now), time.Millisecond)
		}
		status.Hosts = append(status.Hosts, st)
	}
	slices.SortFunc(status.Hosts, func(a, b HostStatus) int {
		if a.Gateway != b.Gateway {
			if b.Gateway {
				return -1
			}
			return 1
		}
		return cmp.Or(strings.Compare(a.Address, b.Address), strings.Compare(a.Instance, b.Instance))
	})
	return status
}

// label names the service in logs and metrics.
func (s *Service) label() string { return s.metrics.label }
