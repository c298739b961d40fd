package hooks

import "github.com/prometheus/client_golang/prometheus"

// The families, read from the hooks' counters at each scrape.
var (
	connections = prometheus.NewDesc("isthmus_interception_connections_total",
		"Connections and DNS datagrams that the hooks saw, by direction and what became of them.",
		[]string{"direction", "outcome"}, nil)
	accelerated = prometheus.NewDesc("isthmus_interception_accelerated_total",
		"Connections between the program and the sidecar whose messages may be redirected from socket to socket.", nil, nil)
	messages = prometheus.NewDesc("isthmus_interception_messages_total",
		"Messages on accelerated connections, by the way that they took.", []string{"way"}, nil)
)

// Describe implements [prometheus.Collector].
func (h *Handle) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connections, accelerated, messages} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (h *Handle) Collect(ch chan<- prometheus.Metric) {
	s, err := h.Stats()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(connections, err)
		return
	}
	for _, f := range s.fields() {
		ch <- prometheus.MustNewConstMetric(f.metric, prometheus.CounterValue, float64(*f.value), f.labels...)
	}
}
