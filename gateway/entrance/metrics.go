package entrance

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

type metrics struct {
	ports, unbound, running      prometheus.Gauge
	calls, refused, acceptErrors prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		ports:        gauge("isthmus_entrance_ports", "Ports on which callers without a sidecar are taken."),
		unbound:      gauge("isthmus_entrance_ports_unbound", "Ports of the entrance that could not be bound."),
		running:      gauge("isthmus_entrance_calls_open", "Calls of the entrance that run now."),
		calls:        counter("isthmus_entrance_calls_total", "Calls of the entrance that reached their service."),
		refused:      counter("isthmus_entrance_refused_total", "Calls of the entrance that nobody answered, or who serves refused."),
		acceptErrors: counter("isthmus_entrance_accept_errors_total", "Connections to the entrance that could not be accepted."),
	}
	return m, prom.Register(r, m.ports, m.unbound, m.running, m.calls, m.refused, m.acceptErrors)
}
