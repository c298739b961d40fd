package registry

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	live    prometheus.Gauge
	refused prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		live:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_register_live", Help: "Endpoints that sidecars have registered."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_register_refused_total", Help: "Registrations refused."}),
	}
	if reg != nil {
		reg.MustRegister(m.live, m.refused)
	}
	return m
}
