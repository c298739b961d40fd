package forward

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/prom"
)

// direction says from where a path was asked for.
type direction int

const (
	outbound direction = iota // from this cluster, by the mesh port
	inbound                   // from another cluster, by a tunnel
)

var directionNames = [...]string{outbound: "outbound", inbound: "inbound"}

func (d direction) String() string { return directionNames[d] }

// metrics are the package's Prometheus metrics, labels resolved.
type metrics struct {
	open     [2]prometheus.Gauge
	setup    [2]prometheus.Observer
	sent     [2]prometheus.Counter
	received [2]prometheus.Counter
	opened   [2]prometheus.Counter
	failed   [2]prometheus.Counter
	refused  *prometheus.CounterVec // direction, reason: error types of RFC 9209 and the words of reason
	hedges   prometheus.Counter
	retries  prometheus.Counter

	acceptErrors prometheus.Counter
	ownFaults    prometheus.Counter
}

// Reasons for which a connection is closed without a refusal, beside the error
// types of RFC 9209 as labels of isthmus_paths_refused_total.
const (
	reasonNotMesh  = "not_mesh_traffic" // its first byte is neither CONNECT's nor TLS's
	reasonNoHead   = "no_head"          // it ended, or took too long, before its head was whole
	reasonNotTLS   = "not_tls"          // its payload does not begin with a ClientHello
	reasonRejected = "rejected"         // beyond the bounds, and too many to be told so
	reasonOther    = "other"            // an error type of a newer gateway
)

// reasons is the bounded set of that label.
var reasons = []string{
	connect.DestinationNotFound, connect.DestinationUnavailable, connect.ConnectionRefused, connect.ConnectionTimeout,
	connect.ConnectionTerminated, connect.ConnectionLimit, connect.RequestError, connect.RequestDenied, connect.ProxyLoop, connect.ProxyInternal,
	reasonNotMesh, reasonNoHead, reasonNotTLS, reasonRejected,
}

// refusal counts a refused path.
func (m *metrics) refusal(d direction, reason string) {
	if !slices.Contains(reasons, reason) {
		reason = reasonOther
	}
	m.refused.WithLabelValues(directionNames[d], reason).Inc()
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	by := []string{"direction"}
	open := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "isthmus_paths_open",
		Help: "Paths that are open now."}, by)
	setup := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "isthmus_path_setup_seconds",
		Help:    "Time from a path's head to its first answer.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}}, by)
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_path_bytes_total",
		Help: "Bytes carried by paths that have ended, by direction of the path and of the bytes."}, []string{"direction", "flow"})
	opened := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_paths_opened_total",
		Help: "Paths that were opened."}, by)
	failed := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_paths_failed_total",
		Help: "Paths that were opened and ended by an error."}, by)
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "isthmus_paths_refused_total",
		Help: "Paths that were refused, by reason."}, []string{"direction", "reason"})
	hedges := prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_path_hedges_total",
		Help: "Attempts started beside one that had not answered."})
	retries := prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_path_retries_total",
		Help: "Attempts started after one that was refused."})
	accept := prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_path_accept_errors_total",
		Help: "Connections to the mesh port that could not be accepted, for want of file descriptors mostly."})
	own := prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_path_own_faults_total",
		Help: "Endpoints that were not dialled for want of a local port, a file descriptor or memory."})
	m := &metrics{refused: refused, hedges: hedges, retries: retries, acceptErrors: accept, ownFaults: own}
	for d, name := range directionNames {
		m.open[d] = open.WithLabelValues(name)
		m.setup[d] = setup.WithLabelValues(name)
		m.sent[d] = bytes.WithLabelValues(name, "sent")
		m.received[d] = bytes.WithLabelValues(name, "received")
		m.opened[d] = opened.WithLabelValues(name)
		m.failed[d] = failed.WithLabelValues(name)
	}
	return m, prom.Register(r, open, setup, bytes, opened, failed, refused, hedges, retries, accept, own)
}
