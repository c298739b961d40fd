package http2

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Two ends, whose driver does things in an order that nobody chose: no byte is lost or
// comes twice, no window is overrun (either end would end the connection), and every
// stream ends.
func TestTwoEndsUnderARandomSchedule(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { newSchedule(t, seed).run() })
	}
}

// message is one direction of one exchange.
type message struct {
	payload  []byte
	sent     int
	end      bool
	got      []byte
	unread   int
	ended    bool
	trailers bool
}

type schedule struct {
	*rand.Rand
	*pair
	ids      []uint32
	up, down map[uint32]*message
	opened   int
	reset    map[uint32]bool
}

func newSchedule(t *testing.T, seed uint64) *schedule {
	r := rand.New(rand.NewPCG(seed, 0))
	s := &schedule{Rand: r, up: map[uint32]*message{}, down: map[uint32]*message{}, reset: map[uint32]bool{}}
	s.pair = &pair{t: t, client: NewClient(Settings{StreamWindow: 1 << r.IntN(18)}), server: NewServer(Settings{MaxStreams: 1 + r.Uint32N(20), StreamWindow: 1 << r.IntN(18)})}
	s.toServer, s.toClient = s.client.Start(nil), s.server.Start(nil)
	return s
}

func (s *schedule) message() *message {
	m := &message{payload: make([]byte, s.IntN(1<<s.IntN(19))), trailers: s.IntN(3) == 0}
	for i := range m.payload {
		m.payload[i] = byte(s.Uint32())
	}
	return m
}

func (s *schedule) run() {
	const exchanges = 40
	for step := 0; ; step++ {
		if step > 2_000_000 {
			s.t.Fatalf("streams that never end: %d and %d", s.client.Streams(), s.server.Streams())
		}
		switch s.IntN(8) {
		case 0:
			if s.opened < exchanges {
				s.open()
			} else if s.client.Streams()+s.server.Streams() == 0 && len(s.toClient)+len(s.toServer) == 0 && !s.client.HasOutput() && !s.server.HasOutput() {
				s.check()
				return
			}
		case 1:
			s.toServer = s.write(s.client, s.toServer, s.up)
		case 2:
			s.toClient = s.write(s.server, s.toClient, s.down)
		case 3:
			s.read(s.client, s.down)
			s.toServer = s.client.Output(s.toServer)
		case 4:
			s.read(s.server, s.up)
			s.toClient = s.server.Output(s.toClient)
		case 5:
			s.toServer = s.deliver(s.server, s.toServer)
		case 6:
			s.toClient = s.deliver(s.client, s.toClient)
		case 7:
			s.disturb()
		}
	}
}

func (s *schedule) open() {
	stream, err := s.client.OpenStream()
	if err != nil {
		return
	}
	s.opened++
	s.ids = append(s.ids, stream)
	m := s.message()
	s.up[stream], s.down[stream] = m, s.message()
	s.toServer = s.client.BeginRequest(s.toServer, stream, &RequestHead{Method: []byte("POST"), Scheme: "http", Authority: []byte("a"), Path: fmt.Appendf(nil, "/%d", s.IntN(5))})
	for range s.IntN(8) {
		s.toServer = s.client.appendFieldString(s.toServer, fmt.Sprintf("x-%d", s.IntN(9)), strings.Repeat("v", s.IntN(1<<s.IntN(14))))
	}
	m.end = len(m.payload) == 0 && !m.trailers
	s.toServer = s.client.EndHead(s.toServer, m.end)
}

// some returns the streams in an order of its own.
func (s *schedule) some() []uint32 {
	if len(s.ids) == 0 {
		return nil
	}
	i := s.IntN(len(s.ids))
	return slices.Concat(s.ids[i:], s.ids[:i])
}

// write sends a part of one message.
func (s *schedule) write(c *Conn, out []byte, all map[uint32]*message) []byte {
	for _, stream := range s.some() {
		m := all[stream]
		if m.end || s.reset[stream] || c.streams.find(stream) == nil {
			continue
		}
		if c == s.server && !c.streams.find(stream).answered {
			if s.IntN(4) == 0 {
				out = c.EndHead(c.BeginResponse(out, stream, 103), false)
			}
			out = c.EndHead(c.BeginResponse(out, stream, 200), false)
		}
		part := m.payload[m.sent:]
		part = part[:s.IntN(len(part)+1)]
		whole := m.sent+len(part) == len(m.payload)
		var n int
		out, n = c.AppendData(out, stream, part, whole && !m.trailers)
		m.sent += n
		if m.sent == len(m.payload) && whole {
			if m.end = true; m.trailers {
				out = c.BeginTrailers(out, stream)
				out = c.appendFieldString(out, "t", "u")
				out = c.EndHead(out, true)
			}
		}
		return out
	}
	return out
}

// read takes a part of what came of one message.
func (s *schedule) read(c *Conn, all map[uint32]*message) {
	for _, stream := range s.some() {
		if m := all[stream]; m.unread > 0 {
			n := 1 + s.IntN(m.unread)
			m.unread -= n
			c.Consumed(stream, n)
			return
		}
	}
}

// deliver moves a part of what was written.
func (s *schedule) deliver(c *Conn, wire []byte) []byte {
	in := wire[:s.IntN(len(wire)+1)]
	rest := wire[len(in):]
	all := s.up
	if c == s.client {
		all = s.down
	}
	var ev Event
	for {
		n, err := c.Next(in, &ev)
		if err != nil {
			s.t.Fatal(err)
		}
		if n == 0 {
			break
		}
		in = in[n:]
		m := all[ev.Stream]
		switch ev.Kind {
		case KindData:
			m.got = append(m.got, ev.Payload...)
			m.unread += len(ev.Payload)
			if limit := max(GrownStreamWindow, int(c.settings.StreamWindow)); m.unread > limit {
				s.t.Fatalf("%d bytes unread with a window of %d", m.unread, limit)
			}
		case KindReset:
			if ev.Local && ev.Code != RefusedStream { // a client opens streams before it knows how many
				s.t.Fatal(ev.Text)
			}
			s.reset[ev.Stream] = true
		case KindGoAway:
			s.t.Fatal("goaway")
		}
		if m != nil && ev.End {
			m.ended = true
		}
	}
	return append(append(make([]byte, 0, len(in)+len(rest)), in...), rest...)
}

// disturb does what is rare.
func (s *schedule) disturb() {
	switch s.IntN(400) {
	case 1:
		for _, stream := range s.some() {
			if !s.reset[stream] && s.client.streams.find(stream) != nil {
				s.toServer = s.client.AppendReset(s.toServer, stream, Cancel)
				s.reset[stream] = true
				return
			}
		}
	case 2:
		s.toServer = append(appendFrameHeader(s.client.Output(s.toServer), 8, framePing, 0, 0), make([]byte, 8)...)
	case 3: // the table of the server's encoder changes
		out := appendFrameHeader(s.client.Output(s.toServer), 6, frameSettings, 0, 0)
		s.toServer = appendSetting(out, settingTableSize, s.Uint32N(tableSize))
		s.client.receiver.unacked++
	}
}

func (s *schedule) check() {
	for _, all := range []map[uint32]*message{s.up, s.down} {
		for stream, m := range all {
			if !s.reset[stream] && (!m.ended || !bytes.Equal(m.got, m.payload)) {
				s.t.Errorf("stream %d: %d bytes of %d came, ended %v", stream, len(m.got), len(m.payload), m.ended)
			}
		}
	}
}
