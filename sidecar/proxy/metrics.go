package proxy

import (
	"sync"

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

	mirrored *prometheus.CounterVec
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
			Name: "isthmus_tcp_connections_open", Help: "Open TCP connections that are relayed.",
		}, labels),
		tcpTotal:  counter("isthmus_tcp_connections_total", "TCP connections that were accepted."),
		tcpFailed: counter("isthmus_tcp_connection_failures_total", "TCP connections for which no host could be reached."),
		captured: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_captured_connections_total",
			Help: "Captured connections: served, passed (to where they went, which is not the mesh's), unknown (where to, nobody knows), unnamed (to an address that is nobody's), unrouted (no such port, or no gateway answers).",
		}, []string{"result"}),
	}
	m.mirrored = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_mirrored_requests_total",
		Help: "Requests that rules of routes mirror: sent, or dropped because too many were on their way.",
	}, []string{"result"})
	return m, prom.Register(r, m.refused, m.tcpOpen, m.tcpTotal, m.tcpFailed, m.captured, m.mirrored)
}

// boundMetrics are the resolved handles of one listener. A series appears when it is
// first used: an HTTP service has none of TCP.
type boundMetrics struct {
	*exchange.BoundMetrics
	refused             func() prometheus.Counter
	tcpOpen             func() prometheus.Gauge
	tcpTotal, tcpFailed func() prometheus.Counter
}

func (m *metrics) bind(d direction, destination string) *boundMetrics {
	lazily := func(v *prometheus.CounterVec) func() prometheus.Counter {
		return sync.OnceValue(func() prometheus.Counter { return v.WithLabelValues(string(d), destination) })
	}
	return &boundMetrics{
		BoundMetrics: m.Bind(string(d), destination),
		refused:      lazily(m.refused),
		tcpOpen:      sync.OnceValue(func() prometheus.Gauge { return m.tcpOpen.WithLabelValues(string(d), destination) }),
		tcpTotal:     lazily(m.tcpTotal),
		tcpFailed:    lazily(m.tcpFailed),
	}
}
