package upstream

import (
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

// boundMetrics are the handles of one service, resolved once.
type boundMetrics struct {
	label         string
	opened        [2]prometheus.Counter // by priority
	failed        [2]map[Stage]prometheus.Counter
	reused        prometheus.Counter
	ejections     prometheus.Counter
	retriesDenied prometheus.Counter
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
	r := &boundMetrics{
		label:         label,
		reused:        m.reused.WithLabelValues(label),
		ejections:     m.ejections.WithLabelValues(label),
		retriesDenied: m.retriesDenied.WithLabelValues(label),
	}
	for priority, via := range []string{"local", "gateway"} {
		r.opened[priority] = m.opened.WithLabelValues(label, via)
		r.failed[priority] = make(map[Stage]prometheus.Counter)
		for _, stage := range []Stage{StageLocal, StageConnect, StagePath, StageHandshake} {
			r.failed[priority][stage] = m.failed.WithLabelValues(label, via, string(stage))
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
