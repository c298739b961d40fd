package identity

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

// metrics are counted always and shown when registered.
type metrics struct {
	replaced prometheus.Counter
	failed   prometheus.Counter
}

func newMetrics() metrics {
	const name, help = "isthmus_identity_renewals_total", "Certificates or roots that replaced those in use, and attempts that gave none that is good."
	counter := func(result string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"result": result}})
	}
	return metrics{replaced: counter("replaced"), failed: counter("failed")}
}

// Register makes the source's metrics visible: renewals, and when the current
// certificate expires. A nil registerer is left alone.
func (s *Source) Register(reg prometheus.Registerer) error {
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "isthmus_identity_expiry_timestamp_seconds",
		Help: "When the certificate in use expires, in seconds since 1970.",
	}, func() float64 { return float64(s.NotAfter().Unix()) })
	return prom.Register(reg, expiry, s.metrics.replaced, s.metrics.failed)
}
