package gateway

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// serviceMetrics tells how many endpoints each port of each service has in each
// cluster, as it is when it is asked for.
type serviceMetrics struct{ gateway *Gateway }

var (
	serviceLabels  = []string{"service", "port", "cluster"}
	readyEndpoints = prometheus.NewDesc("isthmus_service_endpoints_ready",
		"Endpoints that answer, as their cluster says; of a cluster out of reach the last that it said.", serviceLabels, nil)
	leftOut = prometheus.NewDesc("isthmus_exports_left_out",
		"Exported services that other clusters are not told of: they are too many, or too large.", nil, nil)
	allEndpoints = prometheus.NewDesc("isthmus_service_endpoints", "Endpoints that exist.", serviceLabels, nil)
)

// Describe is part of [prometheus.Collector].
func (serviceMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- readyEndpoints
	to <- allEndpoints
	to <- leftOut
}

// Collect is part of [prometheus.Collector].
func (m serviceMetrics) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.MustNewConstMetric(leftOut, prometheus.GaugeValue, float64(len(m.gateway.federation.Own().LeftOut())))
	view, _ := m.gateway.federation.View()
	services, _ := m.gateway.services.Snapshot()
	for _, s := range servicesOf(view, services, nil) {
		for _, c := range s.Clusters {
			labels := []string{s.Service.String(), strconv.Itoa(int(c.Port)), string(c.Cluster)}
			to <- prometheus.MustNewConstMetric(readyEndpoints, prometheus.GaugeValue, float64(c.Ready), labels...)
			to <- prometheus.MustNewConstMetric(allEndpoints, prometheus.GaugeValue, float64(c.Total), labels...)
		}
	}
}
