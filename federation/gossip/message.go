package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// messageType is the first byte of a message, as memberlist numbers them.
type messageType byte

const (
	typePing         messageType = 0
	typeIndirectPing messageType = 1
	typeAck          messageType = 2
	typeSuspect      messageType = 3
	typeAlive        messageType = 4
	typeDead         messageType = 5
	typePushPull     messageType = 6
	typeCompound     messageType = 7
	typeNack         messageType = 11
	typeChecksum     messageType = 12
	typeError        messageType = 13
)

// The states of a node in a push/pull.
const (
	stateDead = 2
	stateLeft = 3
)

// maxMeta is memberlist's limit for NodeMeta, in bytes.
const maxMeta = 512

// versions are what memberlist calls the versions of a node: the protocol's least,
// greatest and present, and the delegate's. All gateways speak these.
var versions = [6]byte{1, 5, 2, 0, 0, 0}

// message is any message or node of a push/pull: its type says which fields count.
type message struct {
	seq, incarnation, state, nodes, userState uint32
	port                                      uint16
	join, nack                                bool

	node, from, sourceNode     string // names of nodes; node is also a push/pull's "Name"
	addr, target, source, meta []byte
	sourcePort                 uint16
	versions                   []byte
	text                       string
}

// read reads a message's fields. Unknown ones are skipped.
func (m *message) read(r source) error {
	return readMap(r, func(key string, v value) error {
		number := func(into *uint32) error {
			if v.number > math.MaxUint32 {
				return errors.New("too large")
			}
			*into = uint32(v.number)
			return nil
		}
		port := func(into *uint16) error {
			if v.number > math.MaxUint16 {
				return errors.New("too large")
			}
			*into = uint16(v.number)
			return nil
		}
		switch key {
		case "SeqNo":
			return number(&m.seq)
		case "Incarnation":
			return number(&m.incarnation)
		case "State":
			return number(&m.state)
		case "Nodes":
			return number(&m.nodes)
		case "UserStateLen":
			return number(&m.userState)
		case "Port":
			return port(&m.port)
		case "SourcePort":
			return port(&m.sourcePort)
		case "Join":
			m.join = v.number != 0
		case "Nack":
			m.nack = v.number != 0
		case "Node", "Name":
			m.node = string(v.bytes)
		case "From":
			m.from = string(v.bytes)
		case "SourceNode":
			m.sourceNode = string(v.bytes)
		case "Addr":
			m.addr = v.bytes
		case "Target":
			m.target = v.bytes
		case "SourceAddr":
			m.source = v.bytes
		case "Meta":
			m.meta = v.bytes
		case "Vsn":
			m.versions = v.bytes
		case "Error":
			m.text = string(v.bytes)
		}
		return nil
	})
}

// checkOwn returns an error unless the message says that it comes from the peer: its
// answer goes to whom it names.
func (m *message) checkOwn(peer mesh.GatewayID) error {
	if m.sourceNode != NodeName(peer) || !bytes.Equal(m.source, NodeAddr(peer)) || m.sourcePort != Port {
		return fmt.Errorf("a question of %q", m.sourceNode)
	}
	return nil
}

// checkNode returns an error unless the message names a gateway with its address.
func (m *message) checkNode(addr []byte) error {
	id, err := ParseNodeName(m.node)
	if err != nil {
		return err
	}
	if !bytes.Equal(addr, NodeAddr(id)) || m.port != Port {
		return fmt.Errorf("not the address that belongs to %q", m.node)
	}
	return nil
}

// checkState returns an error unless the message is a state that a node can have.
func (m *message) checkState() error {
	if err := m.checkNode(m.addr); err != nil {
		return err
	}
	if len(m.meta) > maxMeta {
		return fmt.Errorf("NodeMeta of %d bytes: at most %d", len(m.meta), maxMeta)
	}
	// Whoever speaks a protocol that includes ours is taken for one that speaks ours.
	if v := m.versions; len(v) != len(versions) || v[0] < 1 || v[0] > versions[2] || v[1] < versions[2] {
		return fmt.Errorf("versions %v", v)
	}
	return nil
}

// checkAccusation returns an error unless the message names a gateway and who says that
// it is dead or suspected.
func (m *message) checkAccusation() error {
	_, err := ParseNodeName(m.node)
	_, err2 := ParseNodeName(m.from)
	return errors.Join(err, err2)
}

// bytes returns the message, which was checked, as memberlist would have written it.
func (m *message) bytes(t messageType) []byte {
	b := []byte{byte(t)}
	switch t {
	case typePing:
		b = appendUint(appendRaw(appendMap(b, 5), "SeqNo"), m.seq)
		b = appendRaw(appendRaw(b, "Node"), m.node)
		b = m.appendSource(b)
	case typeIndirectPing:
		b = appendUint(appendRaw(appendMap(b, 8), "SeqNo"), m.seq)
		b = appendRaw(appendRaw(b, "Target"), m.target)
		b = appendUint(appendRaw(b, "Port"), uint32(m.port))
		b = appendRaw(appendRaw(b, "Node"), m.node)
		b = appendBool(appendRaw(b, "Nack"), m.nack)
		b = m.appendSource(b)
	case typeAck, typeNack:
		b = appendUint(appendRaw(appendMap(b, 1), "SeqNo"), m.seq)
	case typeSuspect, typeDead:
		b = appendUint(appendRaw(appendMap(b, 3), "Incarnation"), m.incarnation)
		b = appendRaw(appendRaw(b, "Node"), m.node)
		b = appendRaw(appendRaw(b, "From"), m.from)
	case typeAlive:
		b = appendRaw(appendRaw(appendMap(b, 6), "Node"), m.node)
		b = m.appendState(b)
	case typePushPull:
		b = appendUint(appendRaw(appendMap(b, 3), "Nodes"), m.nodes)
		b = appendUint(appendRaw(b, "UserStateLen"), 0)
		b = appendBool(appendRaw(b, "Join"), m.join)
	case typeError:
		b = appendRaw(appendRaw(appendMap(b, 1), "Error"), m.text)
	}
	return b
}

// appendNode appends a node of a push/pull.
func (m *message) appendNode(b []byte) []byte {
	b = appendRaw(appendRaw(appendMap(b, 7), "Name"), m.node)
	b = appendUint(appendRaw(b, "State"), m.state)
	return m.appendState(b)
}

func (m *message) appendState(b []byte) []byte {
	b = appendUint(appendRaw(b, "Incarnation"), m.incarnation)
	b = appendRaw(appendRaw(b, "Addr"), m.addr)
	b = appendUint(appendRaw(b, "Port"), uint32(m.port))
	b = appendRaw(appendRaw(b, "Meta"), m.meta)
	return appendRaw(appendRaw(b, "Vsn"), slices.Clone(versions[:]))
}

func (m *message) appendSource(b []byte) []byte {
	b = appendRaw(appendRaw(b, "SourceAddr"), m.source)
	b = appendUint(appendRaw(b, "SourcePort"), uint32(m.sourcePort))
	return appendRaw(appendRaw(b, "SourceNode"), m.sourceNode)
}
