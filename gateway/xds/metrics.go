package xds

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

// metrics are the server's figures. Label handles are resolved here, once.
type metrics struct {
	streams            prometheus.Gauge
	resources          prometheus.Gauge
	publishes          prometheus.Counter
	encoded            prometheus.Counter
	sent               prometheus.Counter
	removed            prometheus.Counter
	responses          prometheus.Counter
	nacks              prometheus.Counter
	withheld           prometheus.Gauge
	refused            prometheus.Counter
	rejectedHandshakes prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_xds_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_xds_" + name, Help: help})
	}
	m := &metrics{
		streams:            gauge("streams", "Open ADS streams."),
		resources:          gauge("resources", "Resources that may be asked for."),
		publishes:          counter("publications_total", "Changes of the set of routes that were applied."),
		encoded:            counter("resources_encoded_total", "Resources encoded because they were new or had changed."),
		sent:               counter("resources_sent_total", "Resources sent to sidecars."),
		removed:            counter("resources_removed_total", "Names reported to sidecars as absent."),
		responses:          counter("responses_total", "Responses sent to sidecars."),
		nacks:              counter("nacks_total", "Responses that a client refused."),
		withheld:           gauge("resources_withheld", "Resources that a client has refused, counted once for each: they are left out until they change."),
		refused:            counter("streams_refused_total", "ADS streams refused: no routes are known yet, or a bound was passed."),
		rejectedHandshakes: counter("handshakes_refused_total", "Connections that were no mutual TLS with a workload of this cluster."),
	}
	return m, prom.Register(reg, m.streams, m.resources, m.publishes, m.encoded, m.sent, m.removed,
		m.responses, m.nacks, m.withheld, m.refused, m.rejectedHandshakes)
}
