package exchange

import (
	"cmp"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/prom"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// Metrics are the families of this package, and those that TCP shares.
type Metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	answers   *prometheus.CounterVec
	calls     *prometheus.CounterVec
	retries   *prometheus.CounterVec
	httpConns *prometheus.GaugeVec
	bytes     *prometheus.CounterVec
}

// NewMetrics makes the families and registers them; r may be nil.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	labels := func(more ...string) []string { return append([]string{"direction", "destination"}, more...) }
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels(more...))
	}
	m := &Metrics{
		requests: counter("isthmus_requests_total", "HTTP requests by who served them (cluster, none for our own answers) and status code (0: the client left without).", "cluster", "code"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "isthmus_request_duration_seconds",
			Help: "Time from a request's head to the end of its answer.",
			// 0.5 ms to 16 s by doubling: a loopback hop to a request timeout.
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, labels()),
		answers: counter("isthmus_mesh_answers_total", "Answers that the mesh made itself, by reason (RFC 9209 error types).", "reason"),
		calls:   counter("isthmus_grpc_calls_total", "gRPC calls by their status (none: the answer ended without one).", "grpc_status"),
		retries: counter("isthmus_request_retries_total", "Attempts that were followed by another, by why they failed.", "reason"),
		httpConns: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_http_connections_open", Help: "Open client connections that speak HTTP.",
		}, labels()),
		bytes: counter("isthmus_relayed_bytes_total", "Bytes relayed on TCP and upgraded connections, by way (sent: from the caller).", "way"),
	}
	return m, prom.Register(r, m.requests, m.duration, m.answers, m.calls, m.retries, m.httpConns, m.bytes)
}

// BoundMetrics are the resolved handles of one listener. A series appears when it is
// first used. Its methods may be called concurrently.
type BoundMetrics struct {
	m                          *Metrics
	direction, destination     string
	duration                   func() prometheus.Observer
	httpConnections            func() prometheus.Gauge
	sent, received             func() prometheus.Counter
	unreached, lost, farFailed func() prometheus.Counter
	declined                   func() prometheus.Counter

	calls [grpcStatuses + 1]atomic.Pointer[prometheus.Counter] // by status; the last: any other

	// requests is replaced whole when a new pair is seen: readers take no lock.
	requests atomic.Pointer[map[served]prometheus.Counter]
	mu       sync.Mutex // serializes writers of requests
}

// served is what a request is counted by.
type served struct {
	cluster string
	code    int
}

// Bind resolves the handles of one listener.
func (m *Metrics) Bind(direction, destination string) *BoundMetrics {
	lazily := func(v *prometheus.CounterVec, label string) func() prometheus.Counter {
		return sync.OnceValue(func() prometheus.Counter { return v.WithLabelValues(direction, destination, label) })
	}
	b := &BoundMetrics{
		m: m, direction: direction, destination: destination,
		duration:        sync.OnceValue(func() prometheus.Observer { return m.duration.WithLabelValues(direction, destination) }),
		httpConnections: sync.OnceValue(func() prometheus.Gauge { return m.httpConns.WithLabelValues(direction, destination) }),
		sent:            lazily(m.bytes, "sent"),
		received:        lazily(m.bytes, "received"),
		unreached:       lazily(m.retries, string(unreached)),
		lost:            lazily(m.retries, string(lost)),
		farFailed:       lazily(m.retries, string(farFailed)),
		declined:        lazily(m.retries, string(declined)),
	}
	b.requests.Store(&map[served]prometheus.Counter{})
	return b
}

// noCluster is the label of requests that nobody served.
const noCluster = "none"

// maxServed bounds the pairs that are told apart: clusters name themselves and
// programs choose codes.
const maxServed = 1024

func (b *BoundMetrics) request(cluster string, code int, took time.Duration) {
	b.duration().Observe(took.Seconds())
	k := served{cmp.Or(cluster, noCluster), code}
	if c, ok := (*b.requests.Load())[k]; ok {
		c.Inc()
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := *b.requests.Load()
	if len(old) >= maxServed {
		k = served{"other", code / 100 * 100}
	}
	c := b.m.requests.WithLabelValues(b.direction, b.destination, k.cluster, strconv.Itoa(k.code))
	c.Inc()
	next := maps.Clone(old)
	next[k] = c
	b.requests.Store(&next)
}

// grpcStatuses is how many statuses gRPC has.
const grpcStatuses = 17

// call counts a gRPC call.
func (b *BoundMetrics) call(status int) {
	label := "none"
	if status >= 0 && status < grpcStatuses {
		label = strconv.Itoa(status)
	} else {
		status = grpcStatuses
	}
	c := b.calls[status].Load()
	if c == nil {
		made := b.m.calls.WithLabelValues(b.direction, b.destination, label)
		c = &made
		b.calls[status].Store(c)
	}
	(*c).Inc()
}

// localReply counts an answer of the mesh. Reasons that are not ours are one: a
// gateway's words must not make series.
func (b *BoundMetrics) localReply(reason string) {
	switch reason {
	case connect.DestinationUnavailable, connect.DestinationNotFound, connect.ConnectionRefused, connect.ConnectionTimeout,
		connect.ConnectionTerminated, connect.RequestError, connect.RequestDenied, connect.ProxyLoop, connect.ConnectionLimit, connect.ProxyInternal,
		tlsError, protocolError, responseIncomplete, responseTimeout, upgradeFailed:
	default:
		reason = "other"
	}
	b.m.answers.WithLabelValues(b.direction, b.destination, reason).Inc()
}

func (b *BoundMetrics) retry(c cause) {
	switch c {
	case unreached:
		b.unreached().Inc()
	case lost:
		b.lost().Inc()
	case farFailed:
		b.farFailed().Inc()
	case declined:
		b.declined().Inc()
	}
}

// Unreached counts n attempts that reached nobody.
func (b *BoundMetrics) Unreached(n int) {
	if n > 0 {
		b.unreached().Add(float64(n))
	}
}

// Relayed counts the bytes of a relayed connection.
func (b *BoundMetrics) Relayed(s relay.Stats) {
	b.sent().Add(float64(s.AToB))
	b.received().Add(float64(s.BToA))
}
