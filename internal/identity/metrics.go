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

var bundleNumber = prometheus.NewDesc("isthmus_trust_bundle_number",
	"Number of the bundle in force, by trust domain; 0: none has come yet.", []string{"trust_domain"}, nil)

// bundleNumbers shows the number of the bundle in force of every trust domain that is taken.
type bundleNumbers struct{ trust *TrustStore }

// Describe implements [prometheus.Collector].
func (b bundleNumbers) Describe(to chan<- *prometheus.Desc) { to <- bundleNumber }

// Collect implements [prometheus.Collector].
func (b bundleNumbers) Collect(to chan<- prometheus.Metric) {
	for td, number := range b.trust.Held() {
		to <- prometheus.MustNewConstMetric(bundleNumber, prometheus.GaugeValue, float64(number), td)
	}
}

// Register makes the source's metrics visible: renewals, bundles, and when the current
// certificate expires. A nil registerer is left alone.
func (s *Source) Register(reg prometheus.Registerer) error {
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "isthmus_identity_expiry_timestamp_seconds",
		Help: "When the certificate in use expires, in seconds since 1970.",
	}, func() float64 { return float64(s.NotAfter().Unix()) })
	return prom.Register(reg, expiry, bundleNumbers{&s.trust}, s.metrics.replaced, s.metrics.failed)
}
