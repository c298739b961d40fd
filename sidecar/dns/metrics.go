package dns

import (
	"strconv"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

// boundMetrics are those of the package, with every label resolved.
type boundMetrics struct {
	codes      map[int]prometheus.Counter // answers of ours by response code
	otherCode  prometheus.Counter
	malformed  prometheus.Counter            // of codes
	forwarded  map[string]prometheus.Counter // by how it ended
	dropped    prometheus.Counter
	mismatched prometheus.Counter
	duration   prometheus.Observer
	addresses  prometheus.Gauge
}

// How a forwarded question ended.
const (
	endAnswered = "answered"
	endFailed   = "failed"
)

func newMetrics(r prometheus.Registerer, subscribed func() float64) (*boundMetrics, error) {
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_dns_answers_total", Help: "Questions for mesh names and malformed ones, by the response code of the answer.",
	}, []string{"code"})
	forwarded := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_dns_forwarded_total", Help: "Questions that are not for the mesh, by how forwarding ended.",
	}, []string{"result"})
	dropped := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "isthmus_dns_dropped_total", Help: "Packets that were no question, and questions beyond what may wait.",
	})
	mismatched := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "isthmus_dns_mismatched_total", Help: "Messages from servers that answer no question of ours, and are ignored.",
	})
	duration := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "isthmus_dns_duration_seconds", Help: "Time to answer a question for a mesh name.",
		// 0.1 ms to 6.5 s by four: a known name to one that no gateway answers for.
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
	})
	addresses := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "isthmus_dns_virtual_addresses", Help: "Mesh names that have a virtual address.",
	})
	names := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "isthmus_dns_names", Help: "Mesh names that were asked for lately and are subscribed to.",
	}, subscribed)
	m := &boundMetrics{
		codes: map[int]prometheus.Counter{}, otherCode: answers.WithLabelValues("other"),
		forwarded: map[string]prometheus.Counter{}, dropped: dropped, mismatched: mismatched, duration: duration, addresses: addresses,
	}
	for _, code := range []int{dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeServerFailure, dns.RcodeFormatError, dns.RcodeRefused, dns.RcodeNotImplemented} {
		name, ok := dns.RcodeToString[code]
		if !ok {
			name = strconv.Itoa(code)
		}
		m.codes[code] = answers.WithLabelValues(name)
	}
	m.malformed = m.codes[dns.RcodeFormatError]
	for _, end := range []string{endAnswered, endFailed} {
		m.forwarded[end] = forwarded.WithLabelValues(end)
	}
	return m, prom.Register(r, answers, forwarded, dropped, mismatched, duration, addresses, names)
}

func (m *boundMetrics) answered(rcode int, took time.Duration) {
	c, ok := m.codes[rcode]
	if !ok {
		c = m.otherCode
	}
	c.Inc()
	m.duration.Observe(took.Seconds())
}
