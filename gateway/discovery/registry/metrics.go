package registry

import (
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

type metrics struct {
	live    prometheus.Gauge
	refused *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		live: prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_registrations", Help: "Endpoints that sidecars have registered."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_registrations_refused_total",
			Help: "Registrations refused or ended, by reason (invalid, account, address, taken, limit, unavailable).",
		}, []string{"reason"}),
	}
	for _, reason := range []string{"invalid", "account", "address", "taken", "limit", "unavailable"} {
		m.refused.WithLabelValues(reason)
	}
	return m, prom.Register(reg, m.live, m.refused)
}

// reasonOf is the label of a refusal.
func reasonOf(c codes.Code) string {
	switch c {
	case codes.InvalidArgument:
		return "invalid"
	case codes.PermissionDenied:
		return "account"
	case codes.FailedPrecondition:
		return "address"
	case codes.AlreadyExists:
		return "taken"
	case codes.ResourceExhausted:
		return "limit"
	}
	return "unavailable"
}
