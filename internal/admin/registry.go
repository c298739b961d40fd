package admin

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/isthmus-mesh/isthmus/internal/version"
)

// NewRegistry returns a process's registry, with the metrics that every process
// has: Go's, the process's, and isthmus_build_info.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "isthmus_build_info",
			Help:        "1, with the version of this build and of the Go that built it.",
			ConstLabels: prometheus.Labels{"version": version.String(), "goversion": version.Go()},
		}, func() float64 { return 1 }))
	return r
}
