package tunnel

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/prom"
)

// totals are what connections have carried.
type totals struct {
	sent, received, lost float64 // bytes, bytes, packets
	opened, accepted     float64 // streams
	reductions           float64
}

// addLocked adds what a connection has carried. table.mu is held.
func (s *totals) addLocked(c *conn) {
	stats := c.quic.ConnectionStats()
	s.sent += float64(stats.BytesSent)
	s.received += float64(stats.BytesReceived)
	c.lost = max(c.lost, stats.PacketsLost) // quic-go takes back what came late
	s.lost += float64(c.lost)
	s.opened += float64(c.opened.Load())
	s.accepted += float64(c.accepted.Load())
}

// metrics reads the peer table at each scrape, so that carrying bytes costs
// nothing for it.
type metrics struct {
	node    *Node
	dials   *prometheus.CounterVec // result
	closed  *prometheus.CounterVec // reason
	refused prometheus.Counter

	packetsDropped prometheus.Counter

	connections, rtt, streams *prometheus.Desc // gateway
	bytes, streamsTotal       *prometheus.Desc // gateway, direction
	lost                      *prometheus.Desc // gateway
	packetSize, reductions    *prometheus.Desc // gateway
}

// newMetrics makes the metrics and, unless reg is nil, registers them.
func newMetrics(n *Node, reg prometheus.Registerer) (*metrics, error) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("isthmus_tunnel_"+name, help, append([]string{"gateway"}, labels...), nil)
	}
	m := &metrics{
		node: n,
		dials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_tunnel_dials_total", Help: "Connections dialled, by result.",
		}, []string{"result"}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_tunnel_closed_total", Help: "Connections that ended, by reason.",
		}, []string{"reason"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_tunnel_refused_total", Help: "Clients refused because of their certificate.",
		}),
		packetsDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_tunnel_packets_dropped_total", Help: "Packets dropped because their connection brought too many.",
		}),
		connections:  desc("connections", "Live QUIC connections to the peer."),
		rtt:          desc("rtt_seconds", "Smoothed round-trip time to the peer; the last known while it is down."),
		streams:      desc("streams", "Open streams to and from the peer."),
		bytes:        desc("bytes_total", "Bytes carried, QUIC's overhead included.", "direction"),
		streamsTotal: desc("streams_total", "Streams opened by this gateway (out) and by the peer (in).", "direction"),
		lost:         desc("lost_packets_total", "Packets that were declared lost, most of them rightly."),
		packetSize:   desc("packet_size_bytes", "Size of the packets that pass, as UDP payload; the last known while the peer is down."),
		reductions:   desc("mtu_reductions_total", "Connections replaced because their large packets were lost."),
	}
	return m, prom.Register(reg, m)
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.dials.Describe(ch)
	m.closed.Describe(ch)
	m.refused.Describe(ch)
	m.packetsDropped.Describe(ch)
	for _, d := range []*prometheus.Desc{m.connections, m.rtt, m.streams, m.bytes, m.streamsTotal, m.lost, m.packetSize, m.reductions} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.dials.Collect(ch)
	m.closed.Collect(ch)
	m.refused.Collect(ch)
	m.packetsDropped.Collect(ch)
	peers, _ := m.node.Peers()
	sums := m.node.table.totals()
	for _, p := range peers {
		name := p.Gateway.String()
		send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, t, v, append([]string{name}, labels...)...)
		}
		s := sums[p.Gateway]
		send(m.connections, prometheus.GaugeValue, float64(p.Connections))
		send(m.rtt, prometheus.GaugeValue, p.RTT.Seconds())
		send(m.streams, prometheus.GaugeValue, float64(p.Streams))
		send(m.bytes, prometheus.CounterValue, s.sent, "out")
		send(m.bytes, prometheus.CounterValue, s.received, "in")
		send(m.streamsTotal, prometheus.CounterValue, s.opened, "out")
		send(m.streamsTotal, prometheus.CounterValue, s.accepted, "in")
		send(m.lost, prometheus.CounterValue, s.lost)
		send(m.packetSize, prometheus.GaugeValue, float64(p.PacketSize))
		send(m.reductions, prometheus.CounterValue, s.reductions)
	}
}

// totals sums what all connections to each peer have carried, those that ended
// included.
func (t *table) totals() map[mesh.GatewayID]totals {
	t.mu.Lock()
	defer t.mu.Unlock()
	sums := make(map[mesh.GatewayID]totals, len(t.peers))
	for gw, p := range t.peers {
		s := p.past
		s.reductions = float64(p.reductions)
		for _, c := range p.conns {
			s.addLocked(c)
		}
		sums[gw] = s
	}
	return sums
}
