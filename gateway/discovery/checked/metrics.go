package checked

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

type metrics struct {
	passed, failed prometheus.Counter
	ready, unready prometheus.Gauge
}

// newMetrics registers the package's metrics; a nil registerer registers none.
func newMetrics(r prometheus.Registerer) (metrics, error) {
	checks := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_health_checks_total",
		Help: "Active health checks made, by result (passed or failed).",
	}, []string{"result"})
	endpoints := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_health_endpoints",
		Help: "Endpoints that are actively checked, by state (ready or unready).",
	}, []string{"state"})
	return metrics{
		passed: checks.WithLabelValues("passed"), failed: checks.WithLabelValues("failed"),
		ready: endpoints.WithLabelValues("ready"), unready: endpoints.WithLabelValues("unready"),
	}, prom.Register(r, checks, endpoints)
}
