package upstream

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

// metrics are the package's collectors. They are labelled by destination, of
// which there are as many as this sidecar has routes.
type metrics struct {
	opened        *prometheus.CounterVec
	failed        *prometheus.CounterVec
	reused        *prometheus.CounterVec
	ejections     *prometheus.CounterVec
	retriesDenied *prometheus.CounterVec
}

// boundMetrics are the handles of one service, resolved once: a series appears when it
// is first counted.
type boundMetrics struct {
	label         string
	opened        [2]func() prometheus.Counter // by priority
	failed        [2]map[Stage]func() prometheus.Counter
	reused        func() prometheus.Counter
	ejections     func() prometheus.Counter
	retriesDenied func() prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"destination"}, labels...))
	}
	return &metrics{
		opened:        counter("isthmus_upstream_connections_total", "Connections opened, TLS included, by the kind of host that was dialled.", "via"),
		failed:        counter("isthmus_upstream_connection_failures_total", "Connections that did not come about, by how far they got.", "via", "stage"),
		reused:        counter("isthmus_upstream_connections_reused_total", "Times that an idle connection was used again."),
		ejections:     counter("isthmus_upstream_ejections_total", "Times that a host or a remote instance was ejected for failing."),
		retriesDenied: counter("isthmus_upstream_retries_denied_total", "Retries for which the budget had nothing left."),
	}
}

// Register makes the set's metrics visible. A nil registerer is left alone.
func (s *Set) Register(reg prometheus.Registerer) error {
	m := s.shared.metrics
	return prom.Register(reg, m.opened, m.failed, m.reused, m.ejections, m.retriesDenied)
}

// bind resolves the handles of one service.
func (m *metrics) bind(label string) *boundMetrics {
	lazily := func(v *prometheus.CounterVec, more ...string) func() prometheus.Counter {
		return sync.OnceValue(func() prometheus.Counter { return v.WithLabelValues(append([]string{label}, more...)...) })
	}
	r := &boundMetrics{
		label:         label,
		reused:        lazily(m.reused),
		ejections:     lazily(m.ejections),
		retriesDenied: lazily(m.retriesDenied),
	}
	for priority, via := range []string{"local", "gateway"} {
		r.opened[priority] = lazily(m.opened, via)
		r.failed[priority] = make(map[Stage]func() prometheus.Counter)
		for _, stage := range []Stage{StageLocal, StageConnect, StagePath, StageHandshake} {
			r.failed[priority][stage] = lazily(m.failed, via, string(stage))
		}
	}
	return r
}

// forget drops the series of a service that is gone.
func (m *metrics) forget(r *boundMetrics) {
	for _, v := range []*prometheus.CounterVec{m.opened, m.failed, m.reused, m.ejections, m.retriesDenied} {
		v.DeletePartialMatch(prometheus.Labels{"destination": r.label})
	}
}
