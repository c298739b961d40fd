package adsclient

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

// metrics are the client's figures.
type metrics struct {
	routes    prometheus.Gauge
	absent    prometheus.Gauge
	streams   prometheus.Counter
	responses prometheus.Counter
	nacks     prometheus.Counter
	bytes     prometheus.Counter
}

// newMetrics makes the metrics and, unless reg is nil, registers them.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_xds_client_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_xds_client_" + name, Help: help})
	}
	m := &metrics{
		routes:    gauge("routes", "Destinations that may be dialled."),
		absent:    gauge("absent", "Destinations asked for that do not exist."),
		streams:   counter("streams_total", "ADS streams opened, so the failovers and one."),
		responses: counter("responses_total", "Responses received."),
		nacks:     counter("nacks_total", "Responses of which something could not be used."),
		bytes:     counter("resource_bytes_total", "Bytes of resources received."),
	}
	return m, prom.Register(reg, m.routes, m.absent, m.streams, m.responses, m.nacks, m.bytes)
}
