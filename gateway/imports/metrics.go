package imports

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

type metrics struct {
	imports, leading prometheus.Gauge
	writes, failures prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		imports:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_imports", Help: "ServiceImports that this cluster should have, at the gateway that writes them."}),
		leading:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_imports_leader", Help: "1 at the gateway that writes ServiceImports, else 0."}),
		writes:   prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_imports_writes_total", Help: "Objects of imports that were written or removed."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_imports_failures_total", Help: "Objects of imports that could not be written or removed."}),
	}
	return m, prom.Register(r, m.imports, m.leading, m.writes, m.failures)
}

func (m *metrics) leads(does bool) {
	m.leading.Set(0)
	if does {
		m.leading.Set(1)
	}
}
