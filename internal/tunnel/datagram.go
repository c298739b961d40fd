package tunnel

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/quic-go/quic-go"
)

// datagramType says what a datagram means; see the package comment.
type datagramType uint8

const (
	datagramHeartbeat datagramType = 0
	datagramProbe     datagramType = 1
	datagramEcho      datagramType = 2
	datagramPacket    datagramType = 3
)

const (
	datagramHead = 1 + 4            // type, number
	probeHead    = datagramHead + 1 // and when the next one follows
	// datagramOverhead is how much larger than the largest datagram quic-go takes a
	// packet to be, in bytes: a type byte, the longest connection ID, the AEAD's tag.
	datagramOverhead = 1 + 20 + 16
	// oversized is the size of a datagram that fits into no packet, in bytes.
	oversized = 1500
)

// newDatagram makes a datagram of so many bytes, at least datagramHead.
func newDatagram(t datagramType, number uint32, size int) []byte {
	b := make([]byte, max(size, datagramHead))
	b[0] = byte(t)
	binary.BigEndian.PutUint32(b[1:], number)
	return b
}

// parseDatagram reads what a peer sent but for packets; ok is false when it is too short.
func parseDatagram(b []byte) (t datagramType, number uint32, ok bool) {
	if len(b) < datagramHead {
		return 0, 0, false
	}
	return datagramType(b[0]), binary.BigEndian.Uint32(b[1:datagramHead]), true
}

// maxDatagram returns how large a datagram the connection takes at the time, in
// bytes. quic-go says it only to who asks for more.
func (c *conn) maxDatagram() int {
	if e, ok := errors.AsType[*quic.DatagramTooLargeError](c.quic.SendDatagram(make([]byte, oversized))); ok {
		return int(e.MaxDatagramPayloadSize)
	}
	return heartbeatSize // the connection has ended
}

// heartbeat asks for a heartbeat to be sent. It never blocks.
func (c *conn) heartbeat() { c.queueDatagram(newDatagram(datagramHeartbeat, 0, heartbeatSize)) }

// probe asks for a probe to be sent, which the next one follows in time. It never
// blocks.
func (c *conn) probe(number uint32, next time.Duration) {
	b := newDatagram(datagramProbe, number, max(c.maxDatagram(), probeHead))
	b[datagramHead] = byte(next / time.Second)
	c.queueDatagram(b)
}

// nextProbe returns in how many seconds the next probe follows b, at least one.
func nextProbe(b []byte) uint32 {
	if len(b) < probeHead {
		return 1
	}
	return max(uint32(b[datagramHead]), 1)
}

func (c *conn) queueDatagram(b []byte) {
	select {
	case c.datagrams <- b:
	default: // as if it were lost
	}
}

// sendDatagrams sends what is queued until the connection ends. It blocks while
// quic-go has 32 that it cannot send yet. Packets have a queue of their own, so that
// they do not take the place of heartbeats.
func (c *conn) sendDatagrams() {
	for {
		select {
		case <-c.quic.Context().Done():
			return
		case b := <-c.datagrams:
			// An error means that the connection has ended, or that its packets have
			// become smaller: a lost probe, then.
			_ = c.quic.SendDatagram(b)
		case b := <-c.packets:
			_ = c.quic.SendDatagram(b)
		}
	}
}

// receiveDatagrams echoes probes, notes echoes and hands on packets until the
// connection ends.
func (c *conn) receiveDatagrams() {
	for {
		b, err := c.quic.ReceiveDatagram(c.quic.Context())
		if err != nil {
			return // serve says why
		}
		if len(b) > 1 && datagramType(b[0]) == datagramPacket {
			c.receivePacket(b[1:])
			continue
		}
		t, number, ok := parseDatagram(b)
		switch {
		case !ok:
		case t == datagramProbe:
			c.probeNext.Store(nextProbe(b))
			c.probed.Store(number)
			c.queueDatagram(newDatagram(datagramEcho, number, heartbeatSize))
		case t == datagramEcho && number > c.echoed.Load():
			c.echoed.Store(number) // this goroutine alone writes it
		}
	}
}
