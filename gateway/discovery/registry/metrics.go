package registry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

type metrics struct {
	live    prometheus.Gauge
	refused prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		live:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_register_live", Help: "Endpoints that sidecars have registered."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_register_refused_total", Help: "Registrations refused."}),
	}
	return m, prom.Register(reg, m.live, m.refused)
}
