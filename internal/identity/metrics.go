package identity

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

// metrics are counted always and shown when registered.
type metrics struct {
	reloaded prometheus.Counter
	refused  prometheus.Counter
}

func newMetrics() metrics {
	const name, help = "isthmus_identity_reloads_total", "Changes of the identity files that were loaded, or refused because they are bad."
	counter := func(result string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"result": result}})
	}
	return metrics{reloaded: counter("loaded"), refused: counter("refused")}
}

// Register makes the source's metrics visible: reloads, and when the current
// certificate expires. A nil registerer is left alone.
func (s *Source) Register(reg prometheus.Registerer) error {
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "isthmus_identity_expiry_timestamp_seconds",
		Help: "When the certificate in use expires, in seconds since 1970.",
	}, func() float64 { return float64(s.NotAfter().Unix()) })
	return prom.Register(reg, expiry, s.metrics.reloaded, s.metrics.refused)
}
