package proxy

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// metrics are the families of this package.
type metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	answers   *prometheus.CounterVec
	retries   *prometheus.CounterVec
	refused   *prometheus.CounterVec
	httpConns *prometheus.GaugeVec
	tcpOpen   *prometheus.GaugeVec
	tcpTotal  *prometheus.CounterVec
	tcpFailed *prometheus.CounterVec
	bytes     *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	labels := func(more ...string) []string { return append([]string{"direction", "destination"}, more...) }
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels(more...))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels())
	}
	m := &metrics{
		requests: counter("isthmus_requests_total", "HTTP requests by who served them (cluster, empty for our own) and status code (0: the client left without).", "cluster", "code"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "isthmus_request_duration_seconds",
			Help: "Time from a request's head to the end of its answer.",
			// 0.5 ms to 16 s by doubling: a loopback hop to a request timeout.
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, labels()),
		answers:   counter("isthmus_mesh_answers_total", "Answers that the mesh made itself, by reason (RFC 9209 error types).", "reason"),
		retries:   counter("isthmus_request_retries_total", "Attempts that were followed by another, by why they failed.", "reason"),
		refused:   counter("isthmus_inbound_refused_total", "Inbound connections whose TLS handshake failed or whose caller may not call."),
		httpConns: gauge("isthmus_http_connections", "Open client connections that speak HTTP."),
		tcpOpen:   gauge("isthmus_tcp_connections", "Open TCP connections that are relayed."),
		tcpTotal:  counter("isthmus_tcp_connections_total", "TCP connections that were accepted."),
		tcpFailed: counter("isthmus_tcp_failed_total", "TCP connections for which no host could be reached."),
		bytes:     counter("isthmus_tcp_bytes_total", "Bytes relayed on TCP and upgraded connections, by way (sent: from the caller).", "way"),
	}
	if r != nil {
		r.MustRegister(m.requests, m.duration, m.answers, m.retries, m.refused, m.httpConns, m.tcpOpen, m.tcpTotal, m.tcpFailed, m.bytes)
	}
	return m
}

// boundMetrics are the resolved handles of one listener.
type boundMetrics struct {
	m                          *metrics
	direction, destination     string
	duration                   prometheus.Observer
	refused                    prometheus.Counter
	httpConnections            prometheus.Gauge
	tcpOpen                    prometheus.Gauge
	tcpTotal, tcpFailed        prometheus.Counter
	sent, received             prometheus.Counter
	unreached, lost, farFailed prometheus.Counter

	// requests is replaced whole when a new pair is seen: readers take no lock.
	requests atomic.Pointer[map[served]prometheus.Counter]
	mu       sync.Mutex // serializes writers of requests
}

// served is what a request is counted by.
type served struct {
	cluster string
	code    int
}

func (m *metrics) resolve(d direction, destination string) *boundMetrics {
	l := []string{string(d), destination}
	r := &boundMetrics{
		m: m, direction: string(d), destination: destination,
		duration:        m.duration.WithLabelValues(l...),
		refused:         m.refused.WithLabelValues(l...),
		httpConnections: m.httpConns.WithLabelValues(l...),
		tcpOpen:         m.tcpOpen.WithLabelValues(l...),
		tcpTotal:        m.tcpTotal.WithLabelValues(l...),
		tcpFailed:       m.tcpFailed.WithLabelValues(l...),
		sent:            m.bytes.WithLabelValues(append(l, "sent")...),
		received:        m.bytes.WithLabelValues(append(l, "received")...),
		unreached:       m.retries.WithLabelValues(append(l, unreached)...),
		lost:            m.retries.WithLabelValues(append(l, lost)...),
		farFailed:       m.retries.WithLabelValues(append(l, farFailed)...),
	}
	r.requests.Store(&map[served]prometheus.Counter{})
	return r
}

// maxServed bounds the pairs that are told apart: clusters name themselves and
// programs choose codes.
const maxServed = 1024

func (r *boundMetrics) request(cluster string, code int, took time.Duration) {
	r.duration.Observe(took.Seconds())
	k := served{cluster, code}
	if c, ok := (*r.requests.Load())[k]; ok {
		c.Inc()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.requests.Load()
	if len(old) >= maxServed {
		k = served{"other", code / 100 * 100}
	}
	c := r.m.requests.WithLabelValues(r.direction, r.destination, k.cluster, strconv.Itoa(k.code))
	c.Inc()
	next := maps.Clone(old)
	next[k] = c
	r.requests.Store(&next)
}

// made counts an answer of the mesh. Reasons that are not ours are one: a gateway's
// words must not make series.
func (r *boundMetrics) made(reason string) {
	switch reason {
	case "destination_unavailable", "destination_not_found", connectionRefused, connectionTimeout, "connection_terminated",
		"tls_protocol_error", "http_request_error", "http_request_denied", "http_protocol_error", "http_response_incomplete",
		"http_response_timeout", "http_upgrade_failed", "proxy_loop_detected", "connection_limit_reached":
	default:
		reason = "other"
	}
	r.m.answers.WithLabelValues(r.direction, r.destination, reason).Inc()
}

func (r *boundMetrics) retry(reason string) {
	switch reason {
	case unreached:
		r.unreached.Inc()
	case lost:
		r.lost.Inc()
	case farFailed:
		r.farFailed.Inc()
	}
}

func (r *boundMetrics) relayed(s relay.Stats) {
	r.sent.Add(float64(s.AToB))
	r.received.Add(float64(s.BToA))
}
