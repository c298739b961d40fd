package file

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

type metrics struct{ good, bad prometheus.Gauge }

// newMetrics registers the package's metrics; a nil registerer registers none.
func newMetrics(r prometheus.Registerer) (metrics, error) {
	files := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_resource_files",
		Help: "Resource files in the watched directory, by state (good, or bad: last good state in use).",
	}, []string{"state"})
	return metrics{good: files.WithLabelValues("good"), bad: files.WithLabelValues("bad")}, prom.Register(r, files)
}
