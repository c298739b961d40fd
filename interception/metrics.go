package interception

import "github.com/prometheus/client_golang/prometheus"

// connections is read from the hooks' counters at each scrape.
var connections = prometheus.NewDesc("isthmus_interception_connections_total",
	"Connections and DNS datagrams that the hooks saw, by direction and what became of them.",
	[]string{"direction", "outcome"}, nil)

// Describe implements [prometheus.Collector]: the caller registers an
// Interception, and unregisters it before Close.
func (i *Interception) Describe(ch chan<- *prometheus.Desc) { ch <- connections }

// Collect implements [prometheus.Collector].
func (i *Interception) Collect(ch chan<- prometheus.Metric) {
	s, err := i.Stats()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(connections, err)
		return
	}
	for _, f := range s.fields() {
		ch <- prometheus.MustNewConstMetric(connections, prometheus.CounterValue, float64(*f.value), f.direction, f.outcome)
	}
}
