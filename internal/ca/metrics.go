package ca

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

type metrics struct {
	issued  map[proof]prometheus.Counter
	refused map[reason]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, used *usedTokens) (*metrics, error) {
	issued := func(by string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_ca_certificates_total", Help: "Certificates that were issued, by what their holder had before.",
			ConstLabels: prometheus.Labels{"by": by},
		})
	}
	m := &metrics{
		issued:  map[proof]prometheus.Counter{byCertificate: issued("certificate"), byToken: issued("token"), byServiceAccount: issued("service_account")},
		refused: make(map[reason]prometheus.Counter),
	}
	all := []prometheus.Collector{m.issued[byCertificate], m.issued[byToken], m.issued[byServiceAccount], prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "isthmus_ca_tokens_used", Help: "Used tokens that are remembered.",
	}, func() float64 { return float64(used.count()) })}
	for _, r := range reasons {
		m.refused[r] = prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_ca_refusals_total", Help: "Calls and handshakes that got no certificate, by reason.",
			ConstLabels: prometheus.Labels{"reason": string(r)},
		})
		all = append(all, m.refused[r])
	}
	return m, prom.Register(reg, all...)
}
