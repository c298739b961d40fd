package http2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// appendFieldString is AppendField of what the caller has as strings.
func (c *Conn) appendFieldString(out []byte, name, value string) []byte {
	return c.head.fieldString(out, name, value)
}

// frame returns the bytes of one frame.
func frame(typ frameType, flags uint8, stream uint32, payload string) string {
	return string(append(appendFrameHeader(nil, len(payload), typ, flags, stream), payload...))
}

// block returns a field block of literals that are neither indexed nor compressed. A
// field is "name: value" or "name:value"; a name may begin with a colon.
func block(fields ...string) string {
	var b []byte
	for _, f := range fields {
		i := 1 + strings.IndexByte(f[1:], ':')
		name, value := f[:i], strings.TrimPrefix(f[i+1:], " ")
		b = append(b, 0)
		b = appendHpackString(b, []byte(name))
		b = appendHpackString(b, []byte(value))
	}
	return string(b)
}

// get is a request that nothing is wrong with, and more fields.
func get(more ...string) string {
	return block(append([]string{":method: GET", ":scheme: http", ":path: /", ":authority: shop.mesh"}, more...)...)
}

// headers is a HEADERS frame that is a whole head.
func headers(stream uint32, end bool, block string) string {
	var flags uint8 = flagEndHeaders
	if end {
		flags |= flagEndStream
	}
	return frame(frameHeaders, flags, stream, block)
}

func u32(v ...uint32) string {
	var b []byte
	for _, x := range v {
		b = binary.BigEndian.AppendUint32(b, x)
	}
	return string(b)
}

func setting(id uint16, v uint32) string { return string(appendSetting(nil, id, v)) }

const ack = "\x00\x00\x00\x04\x01\x00\x00\x00\x00"

// greeting is what a peer sends first.
func greeting(toServer bool) string {
	s := frame(frameSettings, 0, 0, "") + ack
	if toServer {
		return clientPreface + s
	}
	return s
}

// played is what an end made of what it was given.
type played struct {
	events []string // those that a driver hears of, settings left out
	frames []string // what the engine answered, acknowledgements and windows left out
	err    error
}

func (p *played) String() string {
	s := strings.Join(p.events, ", ")
	if len(p.frames) > 0 {
		s += " → " + strings.Join(p.frames, ", ")
	}
	if e := (*Error)(nil); errors.As(p.err, &e) {
		s += " → GOAWAY " + e.Code.String()
	}
	return strings.TrimSpace(s)
}

// play gives bytes to an end, in pieces of the given size (0: at once), and lets answer,
// when there is one, act on each event.
func play(t testing.TB, c *Conn, in string, piece int, answer func(ev *Event)) *played {
	var p played
	var buf []byte
	for left := []byte(in); ; {
		var ev Event
		n, err := c.Next(buf, &ev)
		if n > len(buf) {
			t.Fatalf("%d bytes of %d consumed", n, len(buf))
		}
		if err != nil {
			p.err = err
			break
		}
		if n == 0 {
			if ev.Kind != KindNone {
				t.Fatalf("an event of nothing: %+v", ev)
			}
			if len(left) == 0 {
				break
			}
			k := len(left)
			if piece > 0 {
				k = min(piece, k)
			}
			buf = append(buf, left[:k]...)
			left = left[k:]
			if len(buf) > MinBuffer+k {
				t.Fatal("no progress with more than MinBuffer bytes")
			}
			continue
		}
		buf = buf[n:]
		if s := describe(&ev); s != "" {
			if last := len(p.events) - 1; ev.Kind == KindData && last >= 0 && strings.HasPrefix(p.events[last], fmt.Sprintf("data %d ", ev.Stream)) {
				p.events[last] += strings.TrimPrefix(s, fmt.Sprintf("data %d ", ev.Stream))
			} else {
				p.events = append(p.events, s)
			}
		}
		if answer != nil {
			answer(&ev)
		}
	}
	p.frames = frames(t, c.Output(nil))
	return &p
}

func describe(ev *Event) string {
	end := ""
	if ev.End {
		end = "."
	}
	switch ev.Kind {
	case KindHead:
		if ev.Head.TooLarge {
			return fmt.Sprintf("too large %d%s", ev.Stream, end)
		}
		return fmt.Sprintf("head %d%s", ev.Stream, end)
	case KindData:
		return fmt.Sprintf("data %d %s%s", ev.Stream, ev.Payload, end)
	case KindTrailers:
		return fmt.Sprintf("trailers %d", ev.Stream)
	case KindReset:
		if ev.Local {
			return ""
		}
		return fmt.Sprintf("reset %d %s", ev.Stream, ev.Code)
	case KindGoAway:
		return fmt.Sprintf("goaway %d %s", ev.LastStream, ev.Code)
	case KindWindow:
		return fmt.Sprintf("window %d", ev.Stream)
	case KindDrained:
		return "drained"
	}
	return ""
}

// frames tells the frames of an output that an end writes of its own, without
// acknowledgements of SETTINGS, windows and the GOAWAY of an error.
func frames(t testing.TB, out []byte) (all []string) {
	for len(out) > 0 {
		h := parseFrameHeader(out)
		p := out[frameHeaderSize : frameHeaderSize+h.length]
		out = out[frameHeaderSize+h.length:]
		switch h.typ {
		case frameResetStream:
			all = append(all, fmt.Sprintf("RST %d %s", h.stream, Code(be32(p))))
		case framePing:
			all = append(all, fmt.Sprintf("PING %q", p))
		case frameWindowUpdate, frameSettings:
		case frameGoAway:
			if Code(be32(p[4:])) == NoError {
				all = append(all, fmt.Sprintf("GOAWAY %d", be32(p)))
			}
		default:
			t.Fatalf("the engine wrote a frame of type %d", h.typ)
		}
	}
	return all
}

// open returns an end that has been greeted.
func open(t testing.TB, server bool, s Settings) *Conn {
	c := newConn(server, s)
	c.Start(nil)
	if p := play(t, c, greeting(server), 0, nil); p.err != nil {
		t.Fatal(p.err)
	}
	return c
}
