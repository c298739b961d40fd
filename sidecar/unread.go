package sidecar

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// unreadShare is the part of the memory, one in so many, that may hold what has arrived by
// HTTP/2 and nobody has read.
const unreadShare = 4

// newUnread returns the bound of that for this process.
func newUnread(reg prometheus.Registerer) (*streams.Unread, error) {
	u := streams.NewUnread(memory() / unreadShare)
	gauge := func(name, help string, value func() int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	return u, prom.Register(reg,
		gauge("isthmus_unread_bytes", "Memory that holds what has arrived by HTTP/2 and was not read yet.", u.Bytes),
		gauge("isthmus_unread_limit_bytes", "How much of that there may be: a quarter of the least of GOMEMLIMIT, of the cgroup's limit and of the machine's memory.", u.Most),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "isthmus_unread_shed_total", Help: "Streams that were reset because more than isthmus_unread_limit_bytes was held.",
		}, func() float64 { return float64(u.Shed()) }))
}
