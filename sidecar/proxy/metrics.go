package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
	"github.com/isthmus-mesh/isthmus/sidecar/exchange"
)

// metrics are the families of this package.
type metrics struct {
	*exchange.Metrics
	refused   *prometheus.CounterVec
	tcpOpen   *prometheus.GaugeVec
	tcpTotal  *prometheus.CounterVec
	tcpFailed *prometheus.CounterVec
	captured  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	shared, err := exchange.NewMetrics(r)
	if err != nil {
		return nil, err
	}
	labels := []string{"direction", "destination"}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		Metrics: shared,
		refused: counter("isthmus_inbound_refused_total", "Inbound connections whose TLS handshake failed or whose caller may not call."),
		tcpOpen: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_tcp_connections", Help: "Open TCP connections that are relayed.",
		}, labels),
		tcpTotal:  counter("isthmus_tcp_connections_total", "TCP connections that were accepted."),
		tcpFailed: counter("isthmus_tcp_failed_total", "TCP connections for which no host could be reached."),
		captured: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_captured_connections_total",
			Help: "Captured connections: served, unknown (where to, nobody knows), unnamed (to an address that is nobody's), unrouted (no such port, or no gateway answers).",
		}, []string{"result"}),
	}
	return m, prom.Register(r, m.refused, m.tcpOpen, m.tcpTotal, m.tcpFailed, m.captured)
}

// boundMetrics are the resolved handles of one listener.
type boundMetrics struct {
	*exchange.BoundMetrics
	refused             prometheus.Counter
	tcpOpen             prometheus.Gauge
	tcpTotal, tcpFailed prometheus.Counter
}

func (m *metrics) bind(d direction, destination string) *boundMetrics {
	l := []string{string(d), destination}
	return &boundMetrics{
		BoundMetrics: m.Bind(string(d), destination),
		refused:      m.refused.WithLabelValues(l...),
		tcpOpen:      m.tcpOpen.WithLabelValues(l...),
		tcpTotal:     m.tcpTotal.WithLabelValues(l...),
		tcpFailed:    m.tcpFailed.WithLabelValues(l...),
	}
}
