package gatewaylink

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

// Register makes visible how things stand with the gateways of links. A nil
// registerer is left alone.
func Register(links []*Link, reg prometheus.Registerer) error {
	count := func(name, help string, is func(Status) bool) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "isthmus_xds_client_" + name, Help: help}, func() float64 {
			n := 0.0
			for _, l := range links {
				if is(l.Status()) {
					n++
				}
			}
			return n
		})
	}
	return prom.Register(reg,
		count("connected", "1 while a gateway tells the routes.", func(s Status) bool { return s.ADS }),
		count("registrations", "Gateways that hold every registration of this sidecar.", func(s Status) bool { return s.Registered() }))
}
