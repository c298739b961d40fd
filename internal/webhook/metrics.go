package webhook

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

type metrics struct {
	injected, unchanged, skipped, refused, bad, busy prometheus.Counter
	unmeshed                                         prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	reviews := func(result string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_webhook_reviews_total", Help: "Questions of the API server, by what came of them.",
			ConstLabels: prometheus.Labels{"result": result},
		})
	}
	m := &metrics{
		injected: reviews("injected"), unchanged: reviews("unchanged"), skipped: reviews("skipped"), refused: reviews("refused"), bad: reviews("bad"), busy: reviews("busy"),
		unmeshed: prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_webhook_unmeshed_pods", Help: "Pods that are to have a sidecar and run without one."}),
	}
	return m, prom.Register(reg, m.injected, m.unchanged, m.skipped, m.refused, m.bad, m.busy, m.unmeshed)
}
