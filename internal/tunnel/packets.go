package tunnel

import (
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ErrPacketDropped is returned by [Node.SendPacket] when too many packets to the
// gateway wait to be sent already.
var ErrPacketDropped = errors.New("too many packets wait to be sent")

// errPacketSize says that a packet is empty or might not fit.
var errPacketSize = fmt.Errorf("a packet has 1 to %d bytes", MaxPacket)

// SendPacket sends a packet of at most [MaxPacket] bytes to a gateway, once: it may
// be lost, and it may be the second to arrive. It never blocks, and keeps b. It fails
// with [ErrNoTunnel] when no tunnel to the gateway is up, and with [ErrPacketDropped].
func (n *Node) SendPacket(to mesh.GatewayID, b []byte) error {
	if len(b) == 0 || len(b) > MaxPacket {
		return errPacketSize
	}
	conns := n.table.choices(to)
	if len(conns) == 0 {
		return ErrNoTunnel
	}
	select {
	case conns[0].packets <- append([]byte{byte(datagramPacket)}, b...):
		return nil
	default:
		return ErrPacketDropped
	}
}

// HandlePackets has the packets that come handled from now on; nil: they are dropped,
// as they are before. The handler is given who sent the packet, as its certificate
// proves, and owns the bytes. It is called by several goroutines at once and must not
// block: meanwhile its connection answers no probe.
func (n *Node) HandlePackets(handle func(from mesh.GatewayID, b []byte)) {
	n.handlePacket.Store(&handle)
}

// receivePacket hands a packet to the handler. Each connection may bring so many.
func (c *conn) receivePacket(b []byte) {
	if !c.packetRate.Allow() {
		c.node.metrics.packetsDropped.Inc()
		return
	}
	if h := c.node.handlePacket.Load(); h != nil && *h != nil {
		(*h)(c.gateway, b)
	}
}
