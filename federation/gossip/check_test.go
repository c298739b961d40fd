package gossip

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var (
	east  = mesh.GatewayID{Cluster: "east", Name: "east-1"}
	west  = mesh.GatewayID{Cluster: "west", Name: "west-1"}
	north = mesh.GatewayID{Cluster: "north", Name: "north-1"}
	check = Check{Self: east, Peer: west}
)

// ping, alive and accusation are what memberlist of the peer writes.
func ping() *message {
	return &message{seq: 7, node: NodeName(east), source: NodeAddr(west), sourcePort: Port, sourceNode: NodeName(west)}
}

func state(id mesh.GatewayID) *message {
	return &message{incarnation: math.MaxUint32, node: NodeName(id), addr: NodeAddr(id), port: Port, meta: bytes.Repeat([]byte{1}, maxMeta), versions: versions[:]}
}

func accusation(of, by mesh.GatewayID) *message {
	return &message{incarnation: 3, node: NodeName(of), from: NodeName(by)}
}

func indirect() *message {
	m := ping()
	m.node, m.target, m.port, m.nack = NodeName(north), NodeAddr(north), Port, true
	return m
}

func compound(parts ...[]byte) []byte {
	b := []byte{byte(typeCompound), byte(len(parts))}
	for _, p := range parts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	}
	return append(b, bytes.Join(parts, nil)...)
}

func summed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{byte(typeChecksum)}, crc32.ChecksumIEEE(b)), b...)
}

func pushPull(states ...*message) []byte {
	b := (&message{nodes: uint32(len(states)), join: true}).bytes(typePushPull)
	for _, s := range states {
		b = s.appendNode(b)
	}
	return b
}

// good are packets that pass as they are.
func good() [][]byte {
	return [][]byte{
		ping().bytes(typePing),
		indirect().bytes(typeIndirectPing),
		(&message{seq: 7}).bytes(typeAck),
		(&message{seq: 7}).bytes(typeNack),
		accusation(north, west).bytes(typeSuspect),
		accusation(east, north).bytes(typeDead),
		accusation(west, west).bytes(typeDead),
		state(west).bytes(typeAlive),
		state(north).bytes(typeAlive),
	}
}

func TestWhatMemberlistWritesPasses(t *testing.T) {
	for _, b := range good() {
		for what, packet := range map[string][]byte{"alone": b, "with a checksum": summed(b), "in a compound": summed(compound(b, b))} {
			got, err := check.Packet(packet)
			if err != nil || !bytes.Equal(got[0], b) || !bytes.Equal(got[len(got)-1], b) {
				t.Errorf("%q %s: %q, %v", b, what, got, err)
			}
		}
	}
}

func TestWhatWouldEndMemberlistIsRefused(t *testing.T) {
	var nested []byte = ping().bytes(typePing)
	for range 300 {
		nested = compound(nested)
	}
	short := state(west).bytes(typeAlive)
	short = bytes.Replace(short, appendRaw(appendRaw(nil, "Vsn"), versions[:]), appendRaw(appendRaw(nil, "Vsn"), []byte{9}), 1)
	for what, b := range map[string][]byte{
		"encryption version 0, which is unpadded without a look": make([]byte, 45),
		"encryption version 1":           append([]byte{1}, make([]byte, 44)...),
		"an encrypted message":           {10, 0, 0, 0, 0},
		"a compressed message":           {9, 0x82, 0xa4, 'A', 'l', 'g', 'o', 0, 0xa3, 'B', 'u', 'f', 0xa0},
		"a label":                        {244, 1, 'x', 0},
		"a message of users":             {8, 1, 2, 3},
		"compounds within compounds":     nested,
		"a push/pull":                    pushPull(state(west)),
		"nothing":                        {},
		"a compound of nothing at all":   {7},
		"a compound of an empty message": {7, 1, 0, 0},
		"a compound that ends early":     {7, 2, 0, 1, 0, 9, 2},
		"bytes behind a compound":        append(compound((&message{}).bytes(typeAck)), 0),
		"bytes behind a message":         append((&message{}).bytes(typeAck), 0),
		"another checksum":               append([]byte{12, 1, 2, 3, 4}, ping().bytes(typePing)...),
		"checksums within checksums":     summed(summed(ping().bytes(typePing))),
		"a node of one version":          short,
		"a map of many fields":           append([]byte{2, 0xde, 0xff, 0xff}, bytes.Repeat([]byte{0xa0, 0}, 600)...),
		"a string that is not there":     {2, 0x81, 0xa5, 'S', 'e', 'q', 'N', 'o', 0xdb, 0xff, 0xff, 0xff, 0xff},
		"arrays within arrays":           append([]byte{2, 0x81, 0xa1, 'x'}, bytes.Repeat([]byte{0x91}, 1000)...),
		"a negative number":              {2, 0x81, 0xa5, 'S', 'e', 'q', 'N', 'o', 0xd0, 0x80},
		"more than a datagram":           append((&message{}).bytes(typeAck), make([]byte, maxPacket)...),
	} {
		if got, err := check.Packet(b); err == nil {
			t.Errorf("%s: %q", what, got)
		}
	}
}

func TestAPeerAsksForItselfAndNamesGatewaysOnly(t *testing.T) {
	for what, m := range map[string]struct {
		t      messageType
		change func(*message)
	}{
		"a ping whose answer goes to another":        {typePing, func(m *message) { *m = *ping(); m.sourceNode = NodeName(north) }},
		"a ping whose answer goes elsewhere":         {typePing, func(m *message) { *m = *ping(); m.source = NodeAddr(north) }},
		"a ping for another":                         {typePing, func(m *message) { *m = *ping(); m.node = NodeName(north) }},
		"a ping for nobody":                          {typePing, func(m *message) { *m = *ping(); m.node = "" }},
		"a question for another":                     {typeIndirectPing, func(m *message) { *m = *indirect(); m.sourceNode = NodeName(north) }},
		"a question about an address":                {typeIndirectPing, func(m *message) { *m = *indirect(); m.target = []byte{10, 0, 0, 1} }},
		"a question about a port":                    {typeIndirectPing, func(m *message) { *m = *indirect(); m.port = 53 }},
		"a node without a name":                      {typeAlive, func(m *message) { *m = *state(west); m.node = "" }},
		"a node of a name that is none":              {typeAlive, func(m *message) { *m = *state(west); m.node = "west.." }},
		"a node with the address of another":         {typeAlive, func(m *message) { *m = *state(west); m.addr = NodeAddr(north) }},
		"a node with more to say than there is room": {typeAlive, func(m *message) { *m = *state(west); m.meta = make([]byte, maxMeta+1) }},
		"a death of nobody":                          {typeDead, func(m *message) { *m = *accusation(north, west); m.node = "x" }},
		"a suspicion by nobody":                      {typeSuspect, func(m *message) { *m = *accusation(north, west); m.from = strings.Repeat("x", 600) }},
	} {
		var msg message
		m.change(&msg)
		if got, err := check.Packet(msg.bytes(m.t)); err == nil {
			t.Errorf("%s: %q", what, got)
		}
	}
}

func TestWhoSaysThatAnotherHasLeftSaysThatItIsDead(t *testing.T) {
	got, err := check.Packet(accusation(north, north).bytes(typeDead))
	if want := accusation(north, west).bytes(typeDead); err != nil || !bytes.Equal(got[0], want) {
		t.Errorf("%q, %v", got, err)
	}
	theirs, ours := state(north), state(west)
	theirs.state, ours.state = stateLeft, stateLeft
	b, err := check.Stream(bytes.NewReader(pushPull(theirs, ours)))
	theirs.state = stateDead
	if want := pushPull(theirs, ours); err != nil || !bytes.Equal(b, want) {
		t.Errorf("%q, %v", b, err)
	}
}

func TestAStreamIsOneMessageOfTheKindThatIsExpected(t *testing.T) {
	all := pushPull(state(west), state(north), state(east))
	question, ack := ping().bytes(typePing), (&message{seq: 7}).bytes(typeAck)
	refusal := (&message{text: "no"}).bytes(typeError)
	for _, c := range []struct {
		b               []byte
		asked, answered bool
	}{
		{all, true, true}, {question, true, false}, {ack, false, true}, {refusal, false, true},
		{state(west).bytes(typeAlive), false, false}, // of packets
		{[]byte{10, 0, 0, 0, 0}, false, false},       // encrypted, and empty
		{[]byte{9, 0x80}, false, false},              // compressed
		{[]byte{8, 0x80}, false, false},              // of users
		{[]byte{244, 1, 'x'}, false, false},          // labelled
		{nil, false, false},
		{(&message{nodes: MaxNodes + 1}).bytes(typePushPull), false, false},
		{(&message{nodes: 1}).bytes(typePushPull), false, false}, // and none follows
		{append([]byte{6, 0x81}, appendUint(appendRaw(nil, "UserStateLen"), 1)...), false, false},
		{append((&message{nodes: 1}).bytes(typePushPull), 0x80), false, false}, // a node without a name
	} {
		for way, got := range map[bool]func() ([]byte, error){
			true:  func() ([]byte, error) { return check.Stream(bytes.NewReader(c.b)) },
			false: func() ([]byte, error) { return check.Answer(bytes.NewReader(c.b)) },
		} {
			b, err := got()
			passes := way && c.asked || !way && c.answered
			if passes && !bytes.Equal(b, c.b) || passes != (err == nil) {
				t.Errorf("%q, first %v: %q, %v", c.b, way, b, err)
			}
		}
	}
}

func TestAnEndlessStreamIsRefused(t *testing.T) {
	b := (&message{nodes: MaxNodes}).bytes(typePushPull)
	if _, err := check.Stream(&endless{first: b, again: state(west).appendNode(nil)}); err != nil {
		t.Errorf("%d nodes: %v", MaxNodes, err)
	}
	// Fields to come, as large as they may be, in every node.
	padded := append([]byte{0x80 | 15}, bytes.Repeat(append(appendRaw(nil, "pad"), appendRaw(nil, make([]byte, maxBytes))...), 15)...)
	e := &endless{first: b, again: padded}
	if _, err := check.Stream(e); err == nil || e.read > maxNode*(MaxNodes+1) {
		t.Errorf("%d bytes were read: %v", e.read, err)
	}
}

// endless says something once and something else without end.
type endless struct {
	first, again, left []byte
	read               int
}

func (e *endless) Read(b []byte) (int, error) {
	if len(e.left) == 0 {
		e.left, e.first = e.first, nil
	}
	if len(e.left) == 0 {
		e.left = e.again
	}
	n := copy(b, e.left)
	e.left = e.left[n:]
	e.read += n
	return n, nil
}

func TestANodeNameNamesItsGateway(t *testing.T) {
	for _, id := range []mesh.GatewayID{west, {Cluster: "a-1", Name: "b-2"}} {
		if got, err := ParseNodeName(NodeName(id)); err != nil || got != id {
			t.Errorf("%s became %s, %v", id, got, err)
		}
	}
	for _, bad := range []string{"", "west", "west.", ".west", "west.a.b", "west/a", strings.Repeat("a", 300)} {
		if id, err := ParseNodeName(bad); err == nil {
			t.Errorf("%q was read as %s", bad, id)
		}
	}
}

// What passes is written here, so that it passes again unchanged.
func FuzzPacket(f *testing.F) {
	for _, b := range good() {
		f.Add(b)
		f.Add(summed(compound(b, b)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		messages, err := check.Packet(b)
		if err != nil {
			return
		}
		for _, m := range messages {
			if again, err := check.Packet(m); err != nil || len(again) != 1 || !bytes.Equal(again[0], m) {
				t.Fatalf("%q became %q, %v", m, again, err)
			}
		}
	})
}

func FuzzStream(f *testing.F) {
	f.Add(pushPull(state(west), state(north)))
	f.Add(ping().bytes(typePing))
	f.Add((&message{seq: 7}).bytes(typeAck))
	f.Add((&message{text: "no"}).bytes(typeError))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := check.Stream(bytes.NewReader(b)); err == nil {
			if again, err := check.Stream(bytes.NewReader(got)); err != nil || !bytes.Equal(again, got) {
				t.Fatalf("%q became %q, %v", got, again, err)
			}
		}
		if got, err := check.Answer(bytes.NewReader(b)); err == nil {
			if again, err := check.Answer(bytes.NewReader(got)); err != nil || !bytes.Equal(again, got) {
				t.Fatalf("%q became %q, %v", got, again, err)
			}
		}
	})
}
