package federation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/federation/gossip"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// transport carries memberlist's packets and streams in tunnels, and lets memberlist
// read only what package gossip has checked. It implements
// [memberlist.NodeAwareTransport].
//
// memberlist parses in goroutines of its own, where nobody could recover a panic. So
// the check comes before, in goroutines that do: what makes it panic costs its packet
// or stream. memberlist then reads bytes that were written here.
type transport struct {
	self    mesh.GatewayID
	tunnel  *tunnel.Node
	metrics *metrics
	packets chan *memberlist.Packet
	streams chan net.Conn
	// announced takes what a gateway says of itself, or says what is wrong with it. It must not block.
	announced func(from mesh.GatewayID, meta []byte) error
	done      chan struct{} // closed when memberlist is shut down
	once      sync.Once
	log       *slog.Logger
	lines     *rate.Limiter // of log
}

func newTransport(self mesh.GatewayID, e *tunnel.Node, m *metrics, log *slog.Logger) *transport {
	return &transport{
		self: self, tunnel: e, metrics: m, log: log, lines: rate.NewLimiter(rate.Every(refusalInterval), 1),
		packets: make(chan *memberlist.Packet, maxQueuedPackets),
		streams: make(chan net.Conn),
		done:    make(chan struct{}),
	}
}

// checked returns what check, which parses a peer's bytes, does. Its panic is an error.
func checked[T any](check func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return check()
}

// receive hands a peer's packet to memberlist. What memberlist does not take in time
// is dropped: gossip repeats itself. It never blocks.
func (t *transport) receive(from mesh.GatewayID, b []byte) {
	if len(b) > 0 && b[0] == announcementType {
		if err := t.announced(from, b[1:]); err != nil && !errors.Is(err, errMetaVersion) {
			t.metrics.droppedMalformed.Inc()
			t.refused(from, err)
			return
		}
		t.metrics.packetsIn.Inc()
		return
	}
	messages, err := checked(func() ([][]byte, error) { return gossip.Check{Self: t.self, Peer: from}.Packet(b) })
	if err != nil {
		t.metrics.droppedMalformed.Inc()
		t.refused(from, err)
		return
	}
	t.metrics.packetsIn.Inc()
	for _, m := range messages {
		p := &memberlist.Packet{Buf: m, From: &net.UDPAddr{IP: gossip.NodeAddr(from), Port: gossip.Port}, Timestamp: time.Now()}
		select {
		case t.packets <- p:
		default:
			t.metrics.droppedBusy.Inc()
			return
		}
	}
}

// refused says now and then that a gateway gossips what it may not, or what is not gossip.
func (t *transport) refused(from mesh.GatewayID, err error) {
	if t.lines.Allow() {
		t.log.Warn("gossip of a gateway is refused: is it of another version, or is somebody else using its certificate?", "gateway", from.String(), "err", err)
	}
}

// FinalAdvertiseAddr is part of [memberlist.Transport].
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return gossip.NodeAddr(t.self), gossip.Port, nil
}

// WriteToAddress sends a packet. A gateway without a tunnel is one that did not get it:
// an error would make memberlist give up the probe that finds out. Nothing is dialled
// for it, as the tunnel dials all gateways that are known (see core's targets).
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if id, err := gossip.ParseNodeName(a.Name); err == nil {
		t.send(id, b)
	}
	return time.Now(), nil
}

// send sends a packet, or counts why it is not sent.
func (t *transport) send(id mesh.GatewayID, b []byte) {
	switch err := t.tunnel.SendPacket(id, b); {
	case err == nil:
		t.metrics.packetsOut.Inc()
	case errors.Is(err, tunnel.ErrNoTunnel):
		t.metrics.droppedNoTunnel.Inc()
	default:
		t.metrics.droppedQueue.Inc()
	}
}

// DialAddressTimeout opens a stream to a gateway's memberlist.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	id, err := gossip.ParseNodeName(a.Name)
	if err != nil {
		return nil, fmt.Errorf("gossip to %q: %w", a.Name, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	s, err := t.tunnel.Open(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("gossip to %s: %w", id, err)
	}
	c, err := connectGossip(s, timeout)
	if err != nil {
		_ = s.Abort()
		return nil, fmt.Errorf("gossip to %s: %w", id, err)
	}
	c.transport, c.from, c.check = t, id, gossip.Check{Self: t.self, Peer: id}.Answer
	return c, nil
}

// serve hands a stream to memberlist, which closes it. It reports whether it did.
func (t *transport) serve(ctx context.Context, c net.Conn) bool {
	select {
	case t.streams <- c:
		return true
	case <-t.done:
	case <-ctx.Done():
	}
	return false
}

// PacketCh is part of [memberlist.Transport].
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is part of [memberlist.Transport].
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo is part of [memberlist.Transport]; memberlist uses WriteToAddress.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// DialTimeout is part of [memberlist.Transport]; memberlist uses DialAddressTimeout.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// Shutdown is part of [memberlist.Transport].
func (t *transport) Shutdown() error {
	t.once.Do(func() { close(t.done) })
	return nil
}
