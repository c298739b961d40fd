package kube

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stateMetrics says what [Client.State] does.
type stateMetrics struct{ client *Client }

func lostDesc() *prometheus.Desc {
	return prometheus.NewDesc("isthmus_kubernetes_lost_seconds",
		"Seconds for which the API server has told nothing of changes of a kind; 0: it does.", []string{"kind"}, nil)
}

func objectsDesc() *prometheus.Desc {
	return prometheus.NewDesc("isthmus_kubernetes_objects", "Objects of a kind that are known from the API server.", []string{"kind"}, nil)
}

// Describe implements [prometheus.Collector].
func (m stateMetrics) Describe(to chan<- *prometheus.Desc) { to <- lostDesc(); to <- objectsDesc() }

// Collect implements [prometheus.Collector].
func (m stateMetrics) Collect(to chan<- prometheus.Metric) {
	for _, s := range m.client.State() {
		lost := 0.0
		if !s.Lost.IsZero() {
			lost = time.Since(s.Lost).Seconds()
		}
		to <- prometheus.MustNewConstMetric(lostDesc(), prometheus.GaugeValue, lost, s.Kind)
		to <- prometheus.MustNewConstMetric(objectsDesc(), prometheus.GaugeValue, float64(s.Objects), s.Kind)
	}
}
