package http2

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func post(stream uint32) string {
	return headers(stream, false, block(":method: POST", ":scheme: http", ":path: /", ":authority: a"))
}

// sendRoom returns how many bytes of payload AppendData would take for the stream.
func (c *Conn) sendRoom(id uint32) int {
	s := c.streams.find(id)
	if s == nil {
		return 0
	}
	return int(max(0, min(s.send.left, c.send.left)))
}

func TestDATAGoesAsFarAsTheWindowsAllow(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, frame(frameSettings, 0, 0, setting(settingInitialWindow, 10))+headers(1, true, get())+headers(3, true, get()), 0, nil)
	out, n := c.AppendData(nil, 1, []byte("0123456789abcdef"), true)
	if n != 10 || string(out) != frame(frameData, 0, 1, "0123456789") {
		t.Fatal(n, out)
	}
	if c.sendRoom(1) != 0 || c.sendRoom(3) != 10 || c.sendRoom(5) != 0 {
		t.Fatal(c.sendRoom(1), c.sendRoom(3))
	}
	if p := play(t, c, frame(frameWindowUpdate, 0, 3, u32(1))+frame(frameWindowUpdate, 0, 1, u32(4)), 0, nil); p.String() != "window 1" {
		t.Fatal(p)
	}
	if out, n = c.AppendData(nil, 1, []byte("abcdef"), true); n != 4 || string(out) != frame(frameData, 0, 1, "abcd") {
		t.Fatal(n, out)
	}
	play(t, c, frame(frameWindowUpdate, 0, 1, u32(4)), 0, nil)
	if out, n = c.AppendData(nil, 1, []byte("ef"), true); n != 2 || string(out) != frame(frameData, flagEndStream, 1, "ef") || c.Streams() != 1 {
		t.Fatal(n, out)
	}
}

func TestTheConnectionsWindowStopsAllStreams(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, headers(1, true, get())+headers(3, true, get()), 0, nil)
	big := make([]byte, 1<<16)
	if _, n := c.AppendData(nil, 1, big, false); n != defaultWindow {
		t.Fatal(n)
	}
	if _, n := c.AppendData(nil, 3, big, false); n != 0 {
		t.Fatal(n)
	}
	if p := play(t, c, frame(frameWindowUpdate, 0, 0, u32(100)), 0, nil); p.String() != "window 0" {
		t.Fatal(p)
	}
	if _, n := c.AppendData(nil, 3, big, false); n != 100 {
		t.Fatal(n)
	}
}

func TestASmallerInitialWindowMakesWindowsNegative(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, headers(1, true, get()), 0, nil)
	c.AppendData(nil, 1, make([]byte, 1000), false)
	play(t, c, frame(frameSettings, 0, 0, setting(settingInitialWindow, 600)), 0, nil)
	if _, n := c.AppendData(nil, 1, []byte("x"), false); n != 0 || c.sendRoom(1) != 0 {
		t.Fatal(n)
	}
	if p := play(t, c, frame(frameWindowUpdate, 0, 1, u32(400)), 0, nil); p.String() != "" {
		t.Fatal("a window of 0 was told as open", p)
	}
	if p := play(t, c, frame(frameWindowUpdate, 0, 1, u32(1)), 0, nil); p.String() != "window 1" {
		t.Fatal(p)
	}
	if _, n := c.AppendData(nil, 1, []byte("xy"), false); n != 1 {
		t.Fatal(n)
	}
}

func TestAnEndWithoutPayloadNeedsNoWindow(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, frame(frameSettings, 0, 0, setting(settingInitialWindow, 0))+headers(1, true, get()), 0, nil)
	if out, _ := c.AppendData(nil, 1, nil, true); string(out) != frame(frameData, flagEndStream, 1, "") || c.Streams() != 0 {
		t.Fatal(out)
	}
}

func TestFramesOfDATAAreNoLargerThanATLSRecordAndHeadsAsThePeerTakesThem(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, headers(1, true, get()), 0, nil)
	out, _ := c.AppendData(nil, 1, make([]byte, MaxFrame+10), false)
	if first := parseFrameHeader(out); first.length != MaxFrame || len(out) != 2*frameHeaderSize+MaxFrame+10 {
		t.Fatal(first, len(out))
	}
	play(t, c, frame(frameSettings, 0, 0, setting(settingMaxFrame, 20000)), 0, nil)
	out, _ = c.AppendData(nil, 1, make([]byte, MaxFrame+10), false)
	if first := parseFrameHeader(out); first.length != MaxFrame {
		t.Fatal(first)
	}
	out = c.BeginResponse(nil, 1, 200)
	out = c.appendFieldString(out, "a", strings.Repeat("x", 50000))
	out = c.EndHead(out, true)
	var got []string
	for len(out) > 0 {
		h := parseFrameHeader(out)
		got = append(got, fmt.Sprint(h.typ, h.flags, h.length))
		out = out[frameHeaderSize+h.length:]
	}
	if want := []string{"1 1 20000", "9 0 20000", "9 4 10008"}; !slices.Equal(got, want) {
		t.Fatal(got)
	}
}

// What a stream that nobody reads may cost, and that it costs the others nothing.
func TestAStreamThatIsNotReadCostsItsWindowAndStallsNobody(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, post(1)+post(3), 0, nil)
	chunk := strings.Repeat("x", MaxFrame)
	unread := 0
	for unread < DefaultStreamWindow {
		play(t, c, frame(frameData, 0, 1, chunk), 0, nil)
		unread += MaxFrame
	}
	for range 4 * ConnWindow / MaxFrame { // the other one is read
		p := play(t, c, frame(frameData, 0, 3, chunk), 0, func(ev *Event) { c.Consumed(ev.Stream, len(ev.Payload)) })
		if p.err != nil || len(p.frames) > 0 {
			t.Fatal(p.err, p.frames)
		}
	}
	if p := play(t, c, frame(frameData, 0, 1, "x"), 0, nil); p.String() != "→ RST 1 FLOW_CONTROL_ERROR" {
		t.Fatal(p)
	}
}

func TestAWindowComesBackInHalves(t *testing.T) {
	c := open(t, true, Settings{StreamWindow: 100_000})
	play(t, c, post(1), 0, nil)
	play(t, c, strings.Repeat(frame(frameData, 0, 1, strings.Repeat("x", 10_000)), 5), 0, nil)
	c.Consumed(1, 49_999)
	if c.HasOutput() {
		t.Fatal("a window came back early")
	}
	c.Consumed(1, 1)
	if out := c.Output(nil); string(out) != frame(frameWindowUpdate, 0, 1, u32(50_000)) {
		t.Fatalf("%q", out)
	}
	// Padding is nobody's to read.
	play(t, c, strings.Repeat(frame(frameData, flagPadded, 1, "\xff"+strings.Repeat("\x00", 255)+"x"), 194), 0, nil)
	if c.streams.find(1).receive.freed != 194*256 {
		t.Fatal(c.streams.find(1).receive.freed)
	}
}

// fillAndRead has the peer fill the window of a stream, and reads all of it.
func fillAndRead(t *testing.T, c *Conn, id uint32) {
	t.Helper()
	for size := c.streams.find(id).receive.left; size > 0; size -= MaxFrame {
		play(t, c, frame(frameData, 0, id, strings.Repeat("x", int(min(size, MaxFrame)))), 0, nil)
	}
	c.Consumed(id, int(c.streams.find(id).receive.size-c.streams.find(id).receive.freed-c.streams.find(id).receive.left))
	c.Output(nil)
}

func TestTheWindowOfAStreamThatIsReadGrowsAndAllTogetherByABudget(t *testing.T) {
	c := open(t, true, Settings{})
	var ids []uint32
	total := func() (n int64) {
		for _, id := range ids {
			n += c.streams.find(id).receive.size
		}
		return n
	}
	for id := uint32(1); len(ids) < DefaultMaxStreams; id += 2 {
		play(t, c, post(id), 0, nil)
		ids = append(ids, id)
		for range 4 {
			fillAndRead(t, c, id)
		}
	}
	if first, last := c.streams.find(ids[0]), c.streams.find(ids[99]); first.receive.size != GrownStreamWindow || first.receive.left != GrownStreamWindow || last.receive.size != DefaultStreamWindow {
		t.Errorf("windows of %d and %d", first.receive.size, last.receive.size)
	}
	if want := int64(DefaultMaxStreams*DefaultStreamWindow + Growth); total() != want {
		t.Errorf("windows of %d in all, want %d", total(), want)
	}
	// What a stream had is another's when it is gone.
	c.AppendReset(nil, ids[0], Cancel)
	fillAndRead(t, c, ids[99])
	if last := c.streams.find(ids[99]); last.receive.size == DefaultStreamWindow {
		t.Error("it does not grow by what another gave back")
	}
}

func TestTheWindowOfAStreamThatTheOtherEndDoesNotFillStays(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, post(1), 0, nil)
	for range 100 {
		play(t, c, frame(frameData, 0, 1, strings.Repeat("x", MaxFrame)), 0, func(ev *Event) { c.Consumed(1, len(ev.Payload)) })
	}
	if s := c.streams.find(1); s.receive.size != DefaultStreamWindow {
		t.Error(s.receive.size)
	}
}

func TestDATABeyondTheConnectionsWindowEndsTheConnection(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, post(1), 0, nil)
	c.receive.left = 3
	if p := play(t, c, frame(frameData, 0, 1, "four"), 0, nil); p.err != ErrWindowOverrun {
		t.Fatal(p)
	}
}

func TestDATAForAStreamThatWeResetCountsForTheConnection(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, post(1), 0, nil)
	c.AppendReset(nil, 1, Cancel)
	before := c.receive.freed
	if p := play(t, c, frame(frameData, 0, 1, "four"), 0, nil); p.String() != "" || c.receive.freed != before+4 {
		t.Fatal(p, c.receive.freed)
	}
}

func TestHowOldStreamsWereClosedIsForgotten(t *testing.T) {
	c := open(t, true, Settings{})
	for i := range 2 * maxRecent {
		play(t, c, headers(id(i), true, get()), 0, func(ev *Event) {
			c.EndHead(c.BeginResponse(nil, ev.Stream, 200), true)
		})
	}
	// Of the last ones it is known that they ended; older ones get the benefit of the doubt.
	if p := play(t, c, frame(frameData, 0, 1, "x")+headers(3, true, get()), 0, nil); p.String() != "" {
		t.Fatal(p)
	}
	if p := play(t, c, headers(id(2*maxRecent-1), true, get()), 0, nil); p.err != ErrClosedStream {
		t.Fatal(p)
	}
}

func TestStreamsBeyondTheLimitAreRefused(t *testing.T) {
	c := open(t, true, Settings{MaxStreams: 2})
	p := play(t, c, headers(1, true, get())+headers(3, false, get())+headers(5, true, get("index: me"))+frame(frameData, flagEndStream, 3, "x"), 0, nil)
	if p.String() != "head 1., head 3, data 3 x. → RST 5 REFUSED_STREAM" {
		t.Fatal(p)
	}
	c.EndHead(c.BeginResponse(nil, 1, 200), true)
	if p := play(t, c, headers(7, true, get()), 0, nil); p.String() != "head 7." {
		t.Fatal(p)
	}
}

func TestAClientOpensNoMoreThanThePeerAllows(t *testing.T) {
	c := open(t, false, Settings{})
	play(t, c, frame(frameSettings, 0, 0, setting(settingMaxStreams, 1)), 0, nil)
	stream, err := c.OpenStream()
	if err != nil || stream != 1 {
		t.Fatal(stream, err)
	}
	if _, err := c.OpenStream(); err != ErrStreamLimit {
		t.Fatal(err)
	}
	c.AppendReset(nil, 1, Cancel)
	if stream, err = c.OpenStream(); err != nil || stream != 3 {
		t.Fatal(stream, err)
	}
}

func TestAServerDrainsInTwoSteps(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, headers(1, true, get()), 0, nil)
	if out := c.AppendDrain(nil); string(out) != frame(frameGoAway, 0, 0, u32(1<<31-1, 0))+frame(framePing, 0, 0, drainPing) {
		t.Fatalf("%q", out)
	}
	// What was on its way is served; the last of it is named when the PING comes back.
	p := play(t, c, headers(3, true, get())+frame(framePing, flagAck, 0, drainPing), 0, nil)
	if p.String() != "head 3., drained → GOAWAY 3" {
		t.Fatal(p)
	}
	// What comes later is passed over, but for the table of HPACK.
	if p = play(t, c, headers(5, false, get()+"\x40\x01a\x01b")+frame(frameData, flagEndStream, 5, "x"), 0, nil); p.String() != "" || c.receiver.block.decoder.table.len() != 1 {
		t.Fatal(p)
	}
	if out := c.AppendDrain(nil); len(out) != 0 {
		t.Fatalf("drained twice: %q", out)
	}
	for _, stream := range []uint32{1, 3} {
		c.EndHead(c.BeginResponse(nil, stream, 200), true)
	}
	if c.Streams() != 0 || !c.Draining() {
		t.Fatal(c.Streams())
	}
	if last := c.goAway.lastTaken(c.streams.lastID); last != 3 {
		t.Fatalf("the last stream rose to %d", last)
	}
}

func TestAClientLearnsWhatAGoingAwayPeerDoesNotProcess(t *testing.T) {
	c := open(t, false, Settings{})
	for i := range 4 {
		stream, _ := c.OpenStream()
		c.Attach(stream, i)
	}
	p := play(t, c, frame(frameGoAway, 0, 0, u32(3, 0)), 0, func(ev *Event) {
		if ev.LastStream != 3 {
			t.Fatal(ev.LastStream)
		}
		owners := c.AppendOwners(nil, ev.LastStream)
		if slices.SortFunc(owners, func(a, b any) int { return a.(int) - b.(int) }); !slices.Equal(owners, []any{2, 3}) {
			t.Fatal(owners)
		}
	})
	c.Forget(5)
	c.Forget(7)
	if _, err := c.OpenStream(); err != ErrGoingAway || p.err != nil || c.Streams() != 2 {
		t.Fatal(err, p)
	}
}

func TestTheTableOfStreamsKeepsWhatIsOpen(t *testing.T) {
	var tab table
	r := rand.New(rand.NewPCG(1, 2))
	live := map[uint32]*stream{}
	next := uint32(1)
	for range 20000 {
		if len(live) < 200 && r.IntN(2) == 0 {
			live[next] = tab.add(next)
			next += 2 * uint32(1+r.IntN(300))
		} else {
			for id := range live {
				tab.remove(id)
				delete(live, id)
				break
			}
		}
		for id, s := range live {
			if tab.find(id) != s || s.id != id {
				t.Fatalf("stream %d is lost", id)
			}
		}
		if tab.n != len(live) || tab.find(next) != nil {
			t.Fatal(tab.n, len(live))
		}
	}
}

func TestATrimmedConnectionGoesOn(t *testing.T) {
	p := newPair(t, Settings{})
	for range 3 {
		id, err := p.client.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		p.client.Trim() // not while there is a stream
		p.toServer = p.client.EndHead(p.client.BeginRequest(p.toServer, id, &RequestHead{Method: []byte("GET"), Scheme: "http", Authority: []byte("a"), Path: []byte("/x")}), true)
		got := ""
		p.settle(func(c *Conn, ev *Event) {
			if ev.Kind == KindHead && c == p.server {
				got = string(ev.Head.Path())
				p.toClient = c.EndHead(c.BeginResponse(p.toClient, ev.Stream, 200), true)
			}
		})
		if got != "/x" || p.client.Streams()+p.server.Streams() != 0 {
			t.Fatal(got)
		}
		p.client.Trim()
		p.server.Trim()
		if p.client.streams.slots != nil || p.server.receiver.block.head.lines != nil {
			t.Fatal("memory is held")
		}
	}
}
