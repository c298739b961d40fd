package gossip

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// maxPacket bounds a packet, in bytes. No datagram is larger.
	maxPacket = 1500
	// maxNode bounds a node of a push/pull, in bytes: NodeMeta, names and fields to come.
	maxNode = maxMeta + maxBytes
)

// MaxNodes bounds the nodes of a push/pull: all that core.MaxGateways lets into
// memberlist, and the gateway itself.
const MaxNodes = 4096 + 1

// Check is what one peer may tell this gateway's memberlist.
type Check struct{ Self, Peer mesh.GatewayID }

// Packet returns the messages of a packet, each as a packet of its own that memberlist
// may read, or why it may read nothing of it.
func (c Check) Packet(b []byte) ([][]byte, error) {
	if len(b) > maxPacket {
		return nil, fmt.Errorf("packet of %d bytes: at most %d", len(b), maxPacket)
	}
	if len(b) > 5 && messageType(b[0]) == typeChecksum {
		if sum := binary.BigEndian.Uint32(b[1:5]); sum != crc32.ChecksumIEEE(b[5:]) {
			return nil, errors.New("the checksum is another")
		}
		b = b[5:]
	}
	parts, err := split(b)
	if err != nil {
		return nil, err
	}
	for i, part := range parts {
		if parts[i], err = c.message(part); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// split returns the messages of a compound, or the one message.
func split(b []byte) ([][]byte, error) {
	if len(b) == 0 || messageType(b[0]) != typeCompound {
		return [][]byte{b}, nil
	}
	if len(b) < 2 || len(b) < 2+2*int(b[1]) {
		return nil, errors.New("a compound ends within its lengths")
	}
	lengths, rest := b[2:2+2*int(b[1])], b[2+2*int(b[1]):]
	parts := make([][]byte, 0, b[1])
	for ; len(lengths) > 0; lengths = lengths[2:] {
		n := int(binary.BigEndian.Uint16(lengths))
		if n > len(rest) {
			return nil, errors.New("a compound ends within a message")
		}
		parts, rest = append(parts, rest[:n]), rest[n:]
	}
	if len(rest) > 0 {
		return nil, errors.New("bytes behind a compound")
	}
	return parts, nil
}

// message checks one message of a packet and writes it anew.
func (c Check) message(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, errors.New("an empty message")
	}
	t, r := messageType(b[0]), bytes.NewReader(b[1:])
	switch t {
	case typePing, typeIndirectPing, typeAck, typeNack, typeSuspect, typeAlive, typeDead:
	default:
		return nil, fmt.Errorf("message of type %d in a packet", t)
	}
	var m message
	if err := m.read(r); err != nil {
		return nil, fmt.Errorf("message of type %d: %w", t, err)
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("message of type %d: %d bytes behind it", t, r.Len())
	}
	var err error
	switch t {
	case typePing:
		err = c.ping(&m)
	case typeIndirectPing:
		err = errors.Join(m.checkOwn(c.Peer), m.checkNode(m.target))
	case typeSuspect:
		err = m.checkAccusation()
	case typeDead:
		if err = m.checkAccusation(); m.from == m.node {
			m.from = NodeName(c.Peer) // only it can say that it has left
		}
	case typeAlive:
		err = m.checkState()
	}
	if err != nil {
		return nil, fmt.Errorf("message of type %d: %w", t, err)
	}
	return m.bytes(t), nil
}

// ping checks a ping: the peer asks this gateway.
func (c Check) ping(m *message) error {
	if m.node != NodeName(c.Self) {
		return fmt.Errorf("a ping for %q", m.node)
	}
	return m.checkOwn(c.Peer)
}

// Stream reads what a peer says first on a stream that it has opened, and returns what
// memberlist may read of it.
func (c Check) Stream(r io.Reader) ([]byte, error) { return c.stream(r, typePing, typePushPull) }

// Answer reads what a peer answers on a stream that this gateway has opened, and returns
// what memberlist may read of it.
func (c Check) Answer(r io.Reader) ([]byte, error) {
	return c.stream(r, typeAck, typePushPull, typeError)
}

func (c Check) stream(r io.Reader, takes ...messageType) ([]byte, error) {
	s := bufio.NewReader(io.LimitReader(r, maxNode*(MaxNodes+1)))
	first, err := s.ReadByte()
	if err != nil {
		return nil, err
	}
	t := messageType(first)
	known := false
	for _, take := range takes {
		known = known || t == take
	}
	if !known {
		return nil, fmt.Errorf("message of type %d on a stream", t)
	}
	var m message
	if err := m.read(s); err != nil {
		return nil, fmt.Errorf("message of type %d: %w", t, err)
	}
	switch t {
	case typePing:
		if err := c.ping(&m); err != nil {
			return nil, err
		}
	case typePushPull:
		return c.pushPull(&m, s)
	}
	return m.bytes(t), nil
}

// pushPull reads the nodes of a push/pull behind its header.
func (c Check) pushPull(header *message, r source) ([]byte, error) {
	if header.nodes > MaxNodes || header.userState != 0 {
		return nil, fmt.Errorf("push/pull of %d nodes and %d bytes: at most %d and none", header.nodes, header.userState, MaxNodes)
	}
	b := header.bytes(typePushPull)
	for range header.nodes {
		var m message
		if err := m.read(r); err != nil {
			return nil, fmt.Errorf("node of a push/pull: %w", err)
		}
		if err := m.checkState(); err != nil {
			return nil, fmt.Errorf("node of a push/pull: %w", err)
		}
		switch {
		case m.state > stateLeft:
			return nil, fmt.Errorf("node of a push/pull: state %d", m.state)
		case m.state == stateLeft && m.node != NodeName(c.Peer):
			m.state = stateDead // only it can say that it has left
		}
		b = m.appendNode(b)
	}
	return b, nil
}
