package federation

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/prom"
)

// metrics of one Federation; its handles are resolved once.
type metrics struct {
	packetsIn, packetsOut prometheus.Counter
	// Packets that were dropped, and streams that were refused.
	droppedMalformed, droppedBusy, droppedNoTunnel, droppedQueue, streamsRefused prometheus.Counter

	pulled, pullFailed, rejected prometheus.Counter
	conflicts                    prometheus.Counter
}

func newMetrics(f *Federation) (*metrics, error) {
	packets := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_gossip_packets_total", Help: "Gossip packets that were received and read (in) or sent (out)."}, []string{"direction"})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_gossip_packets_dropped_total", Help: "Gossip packets dropped: received and malformed or not the peer's to say (malformed) or not read in time (busy); to be sent without a tunnel (no_tunnel) or while too many wait (queue_full)."}, []string{"reason"})
	refused := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "isthmus_gossip_streams_refused_total", Help: "Gossip streams on which a peer said what is malformed or not its to say."})
	pulls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_catalog_pulls_total", Help: "Pulls of another gateway's catalog: ok, failed (to be tried again) or rejected (signature, origin, digest or bounds)."}, []string{"result"})
	conflicts := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "isthmus_catalog_conflicts_total", Help: "Two catalogs under one version: two gateways have one name and key."})
	return &metrics{
		packetsIn: packets.WithLabelValues("in"), packetsOut: packets.WithLabelValues("out"),
		droppedMalformed: dropped.WithLabelValues("malformed"), droppedBusy: dropped.WithLabelValues("busy"),
		droppedNoTunnel: dropped.WithLabelValues("no_tunnel"), droppedQueue: dropped.WithLabelValues("queue_full"), streamsRefused: refused,
		pulled: pulls.WithLabelValues("ok"), pullFailed: pulls.WithLabelValues("failed"), rejected: pulls.WithLabelValues("rejected"),
		conflicts: conflicts,
	}, prom.Register(f.cfg.Metrics, packets, dropped, refused, pulls, conflicts, viewCollector{f})
}

// viewCollector reads gauges from the present view when asked, so that ages are
// right at that moment and labels end with the gateways that they name.
type viewCollector struct{ f *Federation }

var (
	descAge      = prometheus.NewDesc("isthmus_catalog_age_seconds", "For how long an origin's catalog has not been known to be up to date; 0 while it is.", []string{"origin"}, nil)
	descRecords  = prometheus.NewDesc("isthmus_catalog_records", "Services in an origin's catalog.", []string{"origin"}, nil)
	descRefused  = prometheus.NewDesc("isthmus_gateways_refused", "Gateways that nothing is sent to: their cluster has the name of an earlier one.", nil, nil)
	descGateways = prometheus.NewDesc("isthmus_gateways", "Gateways, by what gossip says of them; hearsay: no tunnel has led to them yet.", []string{"state"}, nil)
)

// Describe implements [prometheus.Collector].
func (c viewCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descAge
	ch <- descRecords
	ch <- descGateways
	ch <- descRefused
}

// Collect implements [prometheus.Collector].
func (c viewCollector) Collect(ch chan<- prometheus.Metric) {
	v, _ := c.f.View()
	now := time.Now()
	for i := range v.Origins {
		o := &v.Origins[i]
		ch <- prometheus.MustNewConstMetric(descAge, prometheus.GaugeValue, o.Age(now).Seconds(), o.ID.String())
		ch <- prometheus.MustNewConstMetric(descRecords, prometheus.GaugeValue, float64(len(o.Records)), o.ID.String())
	}
	alive, hearsay, refused := 0, 0, 0
	for _, g := range v.Gateways {
		switch {
		case g.Hearsay:
			hearsay++
		case g.Alive:
			alive++
		}
		if g.Refused != "" && g.ID != v.Self {
			refused++
		}
	}
	ch <- prometheus.MustNewConstMetric(descGateways, prometheus.GaugeValue, float64(alive), "alive")
	ch <- prometheus.MustNewConstMetric(descGateways, prometheus.GaugeValue, float64(len(v.Gateways)-alive-hearsay), "not alive")
	ch <- prometheus.MustNewConstMetric(descGateways, prometheus.GaugeValue, float64(hearsay), "hearsay")
	ch <- prometheus.MustNewConstMetric(descRefused, prometheus.GaugeValue, float64(refused))
}
