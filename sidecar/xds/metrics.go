package xds

import "github.com/prometheus/client_golang/prometheus"

// metrics are the client's figures. Label handles are resolved here, once.
type metrics struct {
	connected  prometheus.Gauge
	registered prometheus.Gauge
	routes     prometheus.Gauge
	absent     prometheus.Gauge
	streams    prometheus.Counter
	responses  prometheus.Counter
	nacks      prometheus.Counter
	bytes      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_xds_client_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_xds_client_" + name, Help: help})
	}
	m := &metrics{
		connected:  gauge("connected", "1 while a gateway tells the routes."),
		registered: gauge("registrations", "Gateways that hold this sidecar's registration."),
		routes:     gauge("routes", "Destinations that may be dialled."),
		absent:     gauge("absent", "Destinations asked for that do not exist."),
		streams:    counter("streams_total", "ADS streams opened, so the failovers and one."),
		responses:  counter("responses_total", "Responses received."),
		nacks:      counter("nacks_total", "Responses of which something could not be used."),
		bytes:      counter("resource_bytes_total", "Bytes of resources received."),
	}
	if reg != nil {
		reg.MustRegister(m.connected, m.registered, m.routes, m.absent, m.streams, m.responses, m.nacks, m.bytes)
	}
	return m
}
