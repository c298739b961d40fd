package http2

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// flood gives a server what next returns until the connection ends, and returns how many
// times that was, and of how many bytes.
func flood(t *testing.T, c *Conn, next func(i int) string, answer func(ev *Event)) (times, size int, err error) {
	for i := range 1 << 20 {
		in := next(i)
		p := play(t, c, in, 0, answer)
		size += len(in)
		if p.err != nil {
			return i + 1, size, p.err
		}
	}
	t.Fatal("a flood without an end")
	return 0, 0, nil
}

// id is the ith stream that a client opens.
func id(i int) uint32 { return uint32(2*i + 1) }

func TestAFloodEndsTheConnection(t *testing.T) {
	for _, c := range []struct {
		name string
		next func(i int) string
		want *Error
		most int // times
	}{
		{"rapid reset", func(i int) string { // at 500 it takes no more streams
			return headers(id(i), true, get()) + frame(frameResetStream, 0, id(i), u32(8))
		}, ErrUselessFrames, 500 + 1000},
		{"made you reset: windows", func(i int) string {
			return headers(id(i), true, get()) + frame(frameWindowUpdate, 0, id(i), u32(0))
		}, ErrStreamFaults, 500},
		{"made you reset: windows beyond the limit", func(i int) string {
			return headers(id(i), true, get()) + frame(frameWindowUpdate, 0, id(i), u32(1<<31-1))
		}, ErrStreamFaults, 500},
		{"made you reset: DATA behind the end", func(i int) string {
			return headers(id(i), true, get()) + frame(frameData, 0, id(i), "x")
		}, ErrStreamFaults, 500},
		{"made you reset: a head behind the end", func(i int) string {
			return headers(id(i), true, get()) + headers(id(i), true, get())
		}, ErrStreamFaults, 500},
		{"made you reset: content-length", func(i int) string {
			return headers(id(i), false, get("content-length: 1")) + frame(frameData, 0, id(i), "xx")
		}, ErrStreamFaults, 500},
		{"made you reset: priorities", func(i int) string {
			return headers(id(i), true, get()) + frame(framePriority, 0, id(i), u32(id(i))+"\x00")
		}, ErrPriorityFlood, 500},
		{"malformed heads", func(i int) string { return headers(id(i), true, get("A: b")) }, ErrStreamFaults, 500},
		{"streams beyond the limit", func(i int) string { return headers(id(i), true, get()) }, ErrStreamFaults, 600},
		{"settings", func(int) string { return frame(frameSettings, 0, 0, "") }, ErrSettingsFlood, 100},
		{"pings", func(int) string { return frame(framePing, 0, 0, "01234567") }, ErrPingFlood, 500},
		{"empty DATA", func(i int) string {
			if i == 0 {
				return headers(1, false, get())
			}
			return frame(frameData, 0, 1, "")
		}, ErrEmptyFrames, 501},
		{"DATA of padding", func(i int) string {
			if i == 0 {
				return headers(1, false, get())
			}
			return frame(frameData, flagPadded, 1, "\x02\x00\x00")
		}, ErrEmptyFrames, 501},
		{"windows of the connection", func(int) string { return frame(frameWindowUpdate, 0, 0, u32(1)) }, ErrWindowFlood, 2000},
		{"windows of a stream", func(i int) string {
			if i == 0 {
				return headers(1, false, get())
			}
			return frame(frameWindowUpdate, 0, 1, u32(1))
		}, ErrWindowFlood, 2001},
		{"windows of closed streams", func(i int) string {
			if i == 0 {
				return headers(1, false, get()) + frame(frameResetStream, 0, 1, u32(8))
			}
			return frame(frameWindowUpdate, 0, 1, u32(1))
		}, ErrWindowFlood, 2001},
		{"priorities", func(i int) string { return frame(framePriority, 0, id(i), u32(0)+"\x00") }, ErrPriorityFlood, 500},
		{"unknown types", func(int) string { return frame(0xbe, 0, 0, "x") }, ErrUselessFrames, 2000},
		{"resets of closed streams", func(i int) string {
			if i == 0 {
				return headers(1, false, get()) + frame(frameResetStream, 0, 1, u32(8))
			}
			return frame(frameResetStream, 0, 1, u32(8))
		}, ErrUselessFrames, 2001},
		{"heads for a stream that we reset", func(i int) string {
			if i == 0 {
				return headers(1, true, get("A: b"))
			}
			return headers(1, true, get())
		}, ErrUselessFrames, 2001},
		{"goaways", func(int) string { return frame(frameGoAway, 0, 0, u32(0, 0)) }, ErrUselessFrames, 2000},
	} {
		t.Run(c.name, func(t *testing.T) {
			times, _, err := flood(t, open(t, true, Settings{}), c.next, nil)
			if err != c.want || times > c.most {
				t.Fatalf("%d times, then %v; want at most %d, then %v", times, err, c.most, c.want)
			}
		})
	}
}

func TestRapidResetsEndNewStreamsAndLeaveTheOthers(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, post(1), 0, nil) // of somebody else behind the same sidecar
	requests := 0
	for i := 1; ; i++ {
		p := play(t, c, headers(id(i), true, get())+frame(frameResetStream, 0, id(i), u32(8)), 0, func(ev *Event) {
			if ev.Kind == KindHead {
				requests++
			}
		})
		if slices.Contains(p.events, "drained") {
			break
		}
		if p.err != nil || i > 500 {
			t.Fatal(i, p)
		}
	}
	if requests != 500 || !c.Draining() || c.Streams() != 1 {
		t.Fatal(requests, c.Streams())
	}
	if p := play(t, c, frame(frameData, flagEndStream, 1, "x"), 0, nil); p.String() != "data 1 x." {
		t.Fatal(p)
	}
	c.EndHead(c.BeginResponse(nil, 1, 200), true)
	if c.Streams() != 0 || c.err != nil {
		t.Fatal(c.Streams(), c.err)
	}
}

func TestTheGOAWAYOfRapidResetsSaysWhy(t *testing.T) {
	c := open(t, true, Settings{})
	c.budgets[resets] = 0
	var ev Event
	in := []byte(headers(9, true, get()))
	if n, err := c.Next(in, &ev); n != len(in) || err != nil || ev.Kind != KindDrained {
		t.Fatal(n, err, ev.Kind)
	}
	out := c.Output(nil)
	if h := parseFrameHeader(out); h.typ != frameGoAway || string(out[9:17]) != u32(0, uint32(EnhanceYourCalm)) {
		t.Fatalf("%q", out)
	}
}

func TestACONTINUATIONFloodIsCutWithin256KiB(t *testing.T) {
	for name, part := range map[string]string{
		"full":      strings.Repeat("\x00\x01a\x01b", MaxFrame/5),
		"one field": strings.Repeat("x", MaxFrame),
		"tiny":      "\x00\x01a\x01b",
		"empty":     "",
		"indexed":   strings.Repeat("\x82", MaxFrame),
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, true, Settings{})
			_, size, err := flood(t, c, func(i int) string {
				if i == 0 {
					first := ""
					if name == "one field" {
						first = "\x00\x01a\x7f\x81\xfe\x03" // a value of 64 KiB
					}
					return frame(frameHeaders, 0, 1, first)
				}
				return frame(frameContinuation, 0, 1, part)
			}, nil)
			if size > 256<<10+MaxFrame {
				t.Errorf("cut after %d bytes", size)
			}
			if err != ErrContinuations && err != ErrBomb {
				t.Errorf("cut by %v", err)
			}
			if kept := cap(c.receiver.block.decoder.carry) + cap(c.receiver.block.decoder.scratch) + cap(c.receiver.block.head.lines) + cap(c.receiver.block.head.special); kept > 256<<10 {
				t.Errorf("%d bytes are held", kept)
			}
		})
	}
}

func TestAnHPACKBombCostsNoMoreThanALargeHead(t *testing.T) {
	// 4 KiB in the table, then an index of it a byte.
	value := strings.Repeat("x", tableSize-hpackOverhead-1)
	bomb := "\x40" + string(appendHpackString(appendHpackString(nil, []byte("a")), []byte(value)))
	for name, c := range map[string]struct {
		repeat int
		want   error
	}{"large": {MaxFrame - len(bomb) - 200 - 9000, nil}, "beyond reason": {MaxFrame - len(bomb) - 200, ErrBomb}} {
		t.Run(name, func(t *testing.T) {
			end := open(t, true, Settings{})
			p := play(t, end, headers(1, true, get()+bomb+strings.Repeat("\xbe", c.repeat)), 0, nil)
			if p.err != c.want || c.want == nil && p.String() != "too large 1." {
				t.Fatal(p)
			}
			if kept := cap(end.receiver.block.head.lines) + cap(end.receiver.block.head.special); kept > MaxHeadSize+MaxHeadSize/2 {
				t.Fatalf("%d bytes for a head", kept)
			}
		})
	}
}

func TestAStringBeyondTheBoundIsRefusedByItsLength(t *testing.T) {
	c := open(t, true, Settings{})
	var b []byte
	b = appendHpackString(append(b, 0), []byte("a"))
	b = appendHpackInt(b, 0, 7, MaxHeadSize+1)
	if p := play(t, c, headers(1, true, string(b)), 0, nil); p.err != ErrBomb {
		t.Fatal(p)
	}
}

func TestAPeerThatDoesNotReadAnswersIsCutOff(t *testing.T) {
	c := open(t, true, Settings{})
	var ev Event
	ping := []byte(frame(framePing, 0, 0, "01234567"))
	for i := range 1 << 20 {
		c.Elapsed(time.Second) // the flood's own budget never ends
		if _, err := c.Next(ping, &ev); err != nil {
			if err != ErrNotReading || len(c.pending) > maxPending+1024 {
				t.Fatal(i, err, len(c.pending))
			}
			return
		}
	}
	t.Fatal("answers without a bound")
}

func TestInterimResponsesAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		head string
		most int
	}{"many": {block(":status: 102"), 64}, "large": {block(":status: 103", "link: "+strings.Repeat("x", 15<<10)), 4}} {
		end := open(t, false, Settings{})
		id, _ := end.OpenStream()
		end.EndHead(end.BeginRequest(nil, id, &RequestHead{Method: []byte("GET"), Scheme: "http", Authority: []byte("a"), Path: []byte("/")}), true)
		p := play(t, end, strings.Repeat(headers(1, false, c.head), 100), 0, nil)
		if p.err != nil || len(p.events) > c.most || !slices.Contains(p.frames, "RST 1 ENHANCE_YOUR_CALM") {
			t.Errorf("%s: %d passed, then %v, %v", name, len(p.events), p.frames, p.err)
		}
	}
}

func TestBudgetsComeBackWithUsefulWork(t *testing.T) {
	c := open(t, true, Settings{})
	answer := func(ev *Event) {
		if ev.Kind == KindHead {
			c.EndHead(c.BeginResponse(nil, ev.Stream, 200), true)
		}
	}
	// A client half of whose streams are reset, that reads in small pieces and measures.
	for i := 0; i < 20000; i += 2 {
		in := headers(id(i), false, get()) + frame(frameResetStream, 0, id(i), u32(8)) +
			frame(frameWindowUpdate, 0, 0, u32(1)) + frame(frameWindowUpdate, 0, 0, u32(1)) + frame(framePing, 0, 0, "01234567")
		if p := play(t, c, in, 0, nil); p.err != nil {
			t.Fatal(i, p)
		}
		if p := play(t, c, headers(id(i+1), true, get()), 0, answer); p.err != nil {
			t.Fatal(i, p)
		}
	}
}

func TestBudgetsComeBackWithTime(t *testing.T) {
	c := open(t, true, Settings{})
	for i := range 20000 { // a day and a half of keepalives, told in pieces of 300 ms
		for range 20 {
			c.Elapsed(300 * time.Millisecond)
		}
		if p := play(t, c, frame(framePing, 0, 0, "01234567")+frame(frameWindowUpdate, 0, 0, u32(1)), 0, nil); p.err != nil {
			t.Fatal(i, p)
		}
	}
}

// A download of 64 MiB to a client that gives its windows back in pieces of 4 KiB.
func TestAReaderInSmallPiecesIsNoFlood(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, headers(1, true, get()), 0, nil)
	piece := frame(frameWindowUpdate, 0, 0, u32(4096)) + frame(frameWindowUpdate, 0, 1, u32(4096))
	for range 64 << 20 / MaxFrame {
		if _, n := c.AppendData(nil, 1, make([]byte, MaxFrame), false); n != MaxFrame {
			t.Fatal(n)
		}
		if p := play(t, c, strings.Repeat(piece, 4), 0, nil); p.err != nil {
			t.Fatal(p)
		}
	}
}

func TestResetsAfterTheAnswerAreNotPremature(t *testing.T) {
	c := open(t, true, Settings{})
	for i := range 5000 {
		p := play(t, c, headers(id(i), true, get()), 0, func(ev *Event) {
			c.EndHead(c.BeginResponse(nil, ev.Stream, 200), false)
		})
		if p.err != nil {
			t.Fatal(p)
		}
		if p := play(t, c, frame(frameResetStream, 0, id(i), u32(8)), 0, nil); p.err != nil {
			t.Fatal(i, p)
		}
	}
}
