package http2

import (
	"strings"
	"testing"
)

// Every rule of RFC 9113 §4 to §6 that a frame can break, and frames that break none.
// A server has stream 1 open unless the case says otherwise; a client has sent a GET on 1.
func TestFramesMeanWhatRFC9113Says(t *testing.T) {
	open1 := headers(1, false, block(":method: POST", ":scheme: http", ":path: /", ":authority: a"))
	ok := headers(1, false, block(":status: 200"))
	for _, c := range []struct {
		name string
		in   string
		want string // events → frames → GOAWAY
	}{
		// §4: frames
		{"server: unknown type is ignored", frame(0x77, 0xff, 1, "x") + frame(framePing, 0, 0, "01234567"), `→ PING "01234567"`},
		{"server: unknown flags are ignored", open1 + frame(frameData, 0xf6&^flagPadded, 1, "x"), "head 1, data 1 x"},
		{"server: the reserved bit is ignored", frame(framePing, 0, 1<<31, "01234567"), `→ PING "01234567"`},
		{"server: frame beyond 16 KiB", frame(0x77, 0, 0, strings.Repeat("x", MaxFrame+1)), "→ GOAWAY FRAME_SIZE_ERROR"},
		{"server: DATA beyond 16 KiB", open1 + frame(frameData, 0, 1, strings.Repeat("x", MaxFrame+1)), "head 1 → GOAWAY FRAME_SIZE_ERROR"},
		// §4.3: blocks
		{"server: frame within a head", frame(frameHeaders, 0, 1, get()) + frame(framePing, 0, 0, "01234567"), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: unknown type within a head", frame(frameHeaders, 0, 1, get()) + frame(0x77, 0, 0, ""), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: CONTINUATION of another stream", frame(frameHeaders, 0, 1, get()) + frame(frameContinuation, flagEndHeaders, 3, ""), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: CONTINUATION of nothing", frame(frameContinuation, flagEndHeaders, 1, get()), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: CONTINUATION behind a whole head", headers(1, true, get()) + frame(frameContinuation, flagEndHeaders, 1, ""), "head 1. → GOAWAY PROTOCOL_ERROR"},
		{"server: a head in three frames", frame(frameHeaders, flagEndStream, 1, get()[:9]) + frame(frameContinuation, 0, 1, get()[9:20]) + frame(frameContinuation, flagEndHeaders, 1, get()[20:]), "head 1."},
		{"server: block that ends within a field", headers(1, true, get()[:9]), "→ GOAWAY COMPRESSION_ERROR"},
		{"server: index that is not in the table", headers(1, true, "\xff\x00"), "→ GOAWAY COMPRESSION_ERROR"},
		{"server: index 0", headers(1, true, "\x80"), "→ GOAWAY COMPRESSION_ERROR"},
		{"server: size update behind a field", headers(1, true, get()+"\x20"), "→ GOAWAY COMPRESSION_ERROR"},
		{"server: size update beyond the bound", headers(1, true, "\x3f\xe2\x1f"+get()), "→ GOAWAY COMPRESSION_ERROR"},
		{"server: size updates down and up", headers(1, true, "\x20\x3f\xe1\x1f"+get()), "head 1."},
		{"server: three size updates", headers(1, true, "\x20\x20\x20"+get()), "→ GOAWAY COMPRESSION_ERROR"},
		{"server: integer without an end", headers(1, true, "\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "→ GOAWAY COMPRESSION_ERROR"},
		{"server: Huffman padding of eight bits", headers(1, true, get()+"\x00\x01a\x85\xf2\xb2\x4a\x84\xff\x00"), "→ GOAWAY COMPRESSION_ERROR"},
		// §5.1: states
		{"server: DATA on an idle stream", frame(frameData, 0, 1, "x"), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: RST_STREAM on an idle stream", frame(frameResetStream, 0, 1, u32(0)), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: WINDOW_UPDATE on an idle stream", frame(frameWindowUpdate, 0, 1, u32(1)), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: PRIORITY on an idle stream", frame(framePriority, 0, 1, u32(0)+"\x00"), ""},
		{"server: DATA behind the end", headers(1, true, get()) + frame(frameData, 0, 1, "x"), "head 1. → RST 1 STREAM_CLOSED"},
		{"server: HEADERS behind the end", headers(1, true, get()) + headers(1, true, get()), "head 1. → RST 1 STREAM_CLOSED"},
		{"server: WINDOW_UPDATE behind the end", headers(1, true, get()) + frame(frameWindowUpdate, 0, 1, u32(1)), "head 1."},
		{"server: DATA behind the peer's reset", open1 + frame(frameResetStream, 0, 1, u32(8)) + frame(frameData, 0, 1, "x"), "head 1, reset 1 CANCEL → RST 1 STREAM_CLOSED"},
		{"server: HEADERS behind the peer's reset", open1 + frame(frameResetStream, 0, 1, u32(8)) + headers(1, true, get()), "head 1, reset 1 CANCEL → GOAWAY STREAM_CLOSED"},
		{"server: frames behind our reset", open1 + frame(frameWindowUpdate, 0, 1, u32(0)) + frame(frameData, 0, 1, "x") + headers(1, true, get()) + frame(frameWindowUpdate, 0, 1, u32(1)) + frame(frameResetStream, 0, 1, u32(8)), "head 1 → RST 1 PROTOCOL_ERROR"},
		{"server: even stream", headers(2, true, get()), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: stream that was passed over", headers(5, true, get()) + headers(3, true, get()), "head 5. → GOAWAY PROTOCOL_ERROR"},
		{"server: DATA on a stream that was passed over", headers(5, true, get()) + frame(frameData, 0, 3, "x"), "head 5. → RST 3 STREAM_CLOSED"},
		{"client: HEADERS on a stream that we did not open", headers(3, true, block(":status: 200")), "→ GOAWAY PROTOCOL_ERROR"},
		{"client: HEADERS on an even stream", headers(2, true, block(":status: 200")), "→ GOAWAY PROTOCOL_ERROR"},
		{"client: DATA on an even stream", frame(frameData, 0, 2, "x"), "→ GOAWAY PROTOCOL_ERROR"},
		{"client: HEADERS on a finished stream", headers(1, true, block(":status: 200")) + headers(1, true, block(":status: 200")), "head 1. → GOAWAY STREAM_CLOSED"},
		{"client: DATA on a finished stream", headers(1, true, block(":status: 200")) + frame(frameData, 0, 1, "x"), "head 1. → RST 1 STREAM_CLOSED"},
		{"client: DATA before the response", frame(frameData, 0, 1, "x"), "→ RST 1 PROTOCOL_ERROR"},
		// §6.1: DATA
		{"server: DATA on stream 0", frame(frameData, 0, 0, "x"), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: padded DATA", open1 + frame(frameData, flagPadded|flagEndStream, 1, "\x03abc\x00\x00\x00"), "head 1, data 1 abc."},
		{"server: DATA of nothing but padding", open1 + frame(frameData, flagPadded|flagEndStream, 1, "\x03\x00\x00\x00"), "head 1, data 1 ."},
		{"server: padding as long as its frame", open1 + frame(frameData, flagPadded, 1, "\x03abc"), "head 1"},
		{"server: padding longer than its frame", open1 + frame(frameData, flagPadded, 1, "\x04abc"), "head 1 → GOAWAY PROTOCOL_ERROR"},
		{"server: padded DATA without a length", open1 + frame(frameData, flagPadded, 1, ""), "head 1 → GOAWAY FRAME_SIZE_ERROR"},
		// §6.2: HEADERS
		{"server: HEADERS on stream 0", headers(0, true, get()), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: padded HEADERS with priority", frame(frameHeaders, flagEndStream|flagEndHeaders|flagPadded|flagPriority, 1, "\x02"+u32(3)+"\x10"+get()+"\x00\x00"), "head 1."},
		{"server: HEADERS with padding beyond it", frame(frameHeaders, flagEndStream|flagEndHeaders|flagPadded, 1, "\xff"+get()), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: HEADERS too short for its priority", frame(frameHeaders, flagEndStream|flagEndHeaders|flagPriority, 1, "\x00"), "→ GOAWAY FRAME_SIZE_ERROR"},
		{"server: HEADERS that depend on themselves", frame(frameHeaders, flagEndStream|flagEndHeaders|flagPriority, 1, u32(1)+"\x10"+get()), "→ RST 1 PROTOCOL_ERROR"},
		// §6.3: PRIORITY
		{"server: PRIORITY on stream 0", frame(framePriority, 0, 0, u32(0)+"\x00"), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: PRIORITY of four bytes", open1 + frame(framePriority, 0, 1, u32(0)), "head 1 → RST 1 FRAME_SIZE_ERROR"},
		{"server: PRIORITY that depends on itself", open1 + frame(framePriority, 0, 1, u32(1)+"\x00"), "head 1 → RST 1 PROTOCOL_ERROR"},
		// §6.4: RST_STREAM
		{"server: RST_STREAM on stream 0", frame(frameResetStream, 0, 0, u32(8)), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: RST_STREAM of three bytes", open1 + frame(frameResetStream, 0, 1, "abc"), "head 1 → GOAWAY FRAME_SIZE_ERROR"},
		{"server: RST_STREAM", open1 + frame(frameResetStream, 0, 1, u32(5)), "head 1, reset 1 STREAM_CLOSED"},
		{"client: REFUSED_STREAM", frame(frameResetStream, 0, 1, u32(7)), "reset 1 REFUSED_STREAM"},
		// §6.5: SETTINGS
		{"server: SETTINGS on a stream", frame(frameSettings, 0, 1, ""), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: SETTINGS of five bytes", frame(frameSettings, 0, 0, "abcde"), "→ GOAWAY FRAME_SIZE_ERROR"},
		{"server: acknowledgement with payload", frame(frameSettings, flagAck, 0, setting(1, 1)), "→ GOAWAY FRAME_SIZE_ERROR"},
		{"server: acknowledgement of nothing", ack, "→ GOAWAY PROTOCOL_ERROR"},
		{"server: ENABLE_PUSH 2", frame(frameSettings, 0, 0, setting(settingEnablePush, 2)), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: ENABLE_PUSH 1", frame(frameSettings, 0, 0, setting(settingEnablePush, 1)), ""},
		{"client: ENABLE_PUSH 1", frame(frameSettings, 0, 0, setting(settingEnablePush, 1)), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: INITIAL_WINDOW_SIZE 2³¹", frame(frameSettings, 0, 0, setting(settingInitialWindow, 1<<31)), "→ GOAWAY FLOW_CONTROL_ERROR"},
		{"server: MAX_FRAME_SIZE below 16 KiB", frame(frameSettings, 0, 0, setting(settingMaxFrame, 1<<14-1)), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: MAX_FRAME_SIZE of 16 MiB", frame(frameSettings, 0, 0, setting(settingMaxFrame, 1<<24)), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: ENABLE_CONNECT_PROTOCOL 2", frame(frameSettings, 0, 0, setting(settingExtendedConnect, 2)), "→ GOAWAY PROTOCOL_ERROR"},
		{"client: ENABLE_CONNECT_PROTOCOL taken back", frame(frameSettings, 0, 0, setting(settingExtendedConnect, 1)+setting(settingExtendedConnect, 0)), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: unknown setting", frame(frameSettings, 0, 0, setting(0xabcd, 1<<31)), ""},
		// §6.6: PUSH_PROMISE
		{"server: PUSH_PROMISE", open1 + frame(framePushPromise, flagEndHeaders, 1, u32(2)+get()), "head 1 → GOAWAY PROTOCOL_ERROR"},
		{"client: PUSH_PROMISE", frame(framePushPromise, flagEndHeaders, 1, u32(2)+get()), "→ GOAWAY PROTOCOL_ERROR"},
		// §6.7: PING
		{"server: PING on a stream", frame(framePing, 0, 1, "01234567"), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: PING of six bytes", frame(framePing, 0, 0, "012345"), "→ GOAWAY FRAME_SIZE_ERROR"},
		{"server: answer to a PING that nobody sent", frame(framePing, flagAck, 0, "01234567"), ""},
		// §6.8: GOAWAY
		{"server: GOAWAY on a stream", frame(frameGoAway, 0, 1, u32(0, 0)), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: GOAWAY of seven bytes", frame(frameGoAway, 0, 0, "0123456"), "→ GOAWAY FRAME_SIZE_ERROR"},
		{"client: GOAWAY in two steps", frame(frameGoAway, 0, 0, u32(1<<31-1, 0)) + frame(frameGoAway, 0, 0, u32(1, 0)+"bye"), "goaway 2147483647 NO_ERROR, goaway 1 NO_ERROR"},
		{"client: GOAWAY that rises again", frame(frameGoAway, 0, 0, u32(0, 2)) + frame(frameGoAway, 0, 0, u32(5, 2)), "goaway 0 INTERNAL_ERROR, goaway 0 INTERNAL_ERROR"},
		// §6.9: WINDOW_UPDATE
		{"server: WINDOW_UPDATE of three bytes", frame(frameWindowUpdate, 0, 0, "abc"), "→ GOAWAY FRAME_SIZE_ERROR"},
		{"server: WINDOW_UPDATE of the connection by 0", frame(frameWindowUpdate, 0, 0, u32(0)), "→ GOAWAY PROTOCOL_ERROR"},
		{"server: WINDOW_UPDATE of a stream by 0", open1 + frame(frameWindowUpdate, 0, 1, u32(0)), "head 1 → RST 1 PROTOCOL_ERROR"},
		{"server: connection's window beyond 2³¹-1", frame(frameWindowUpdate, 0, 0, u32(1<<31-1)), "→ GOAWAY FLOW_CONTROL_ERROR"},
		{"server: stream's window beyond 2³¹-1", open1 + frame(frameWindowUpdate, 0, 1, u32(1<<31-1)), "head 1 → RST 1 FLOW_CONTROL_ERROR"},
		{"server: settings that lift a window beyond 2³¹-1", open1 + frame(frameWindowUpdate, 0, 1, u32(1<<30)) + frame(frameSettings, 0, 0, setting(settingInitialWindow, 1<<31-1)), "head 1 → GOAWAY FLOW_CONTROL_ERROR"},
		// §8.1: the course of an exchange
		{"server: trailers", open1 + headers(1, true, block("grpc-status: 0")), "head 1, trailers 1"},
		{"server: a second head that does not end", open1 + headers(1, false, block("a: b")), "head 1 → RST 1 PROTOCOL_ERROR"},
		{"client: interim and final answers", headers(1, false, block(":status: 103")) + ok + frame(frameData, 0, 1, "ab") + headers(1, true, block("a: b")), "head 1, head 1, data 1 ab, trailers 1"},
		{"client: interim answer that ends", headers(1, true, block(":status: 100")), "→ RST 1 PROTOCOL_ERROR"},
		{"client: 101", headers(1, false, block(":status: 101")), "→ RST 1 PROTOCOL_ERROR"},
		{"client: two final answers", ok + headers(1, false, block(":status: 200")), "head 1 → RST 1 PROTOCOL_ERROR"},
		// §8.1.1: content-length
		{"server: as much as content-length says", headers(1, false, get("content-length: 4")) + frame(frameData, 0, 1, "ab") + frame(frameData, flagEndStream, 1, "cd"), "head 1, data 1 abcd."},
		{"server: less than content-length says", headers(1, false, get("content-length: 4")) + frame(frameData, flagEndStream, 1, "ab"), "head 1 → RST 1 PROTOCOL_ERROR"},
		{"server: more than content-length says", headers(1, false, get("content-length: 1")) + frame(frameData, 0, 1, "ab"), "head 1 → RST 1 PROTOCOL_ERROR"},
		{"server: nothing where content-length says more", headers(1, true, get("content-length: 1")), "→ RST 1 PROTOCOL_ERROR"},
		{"server: trailers before all that content-length says", headers(1, false, get("content-length: 3")) + headers(1, true, block("a: b")), "head 1 → RST 1 PROTOCOL_ERROR"},
		{"client: less than content-length says", headers(1, false, block(":status: 200", "content-length: 4")) + frame(frameData, flagEndStream, 1, "ab"), "head 1 → RST 1 PROTOCOL_ERROR"},
		{"client: 304 with content-length and no body", headers(1, true, block(":status: 304", "content-length: 4")), "head 1."},
		{"client: 204 with a body", headers(1, false, block(":status: 204")) + frame(frameData, flagEndStream, 1, "ab"), "head 1 → RST 1 PROTOCOL_ERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, piece := range []int{0, 1, 7} {
				server := strings.HasPrefix(c.name, "server")
				end := open(t, server, Settings{})
				if !server {
					id, _ := end.OpenStream()
					end.EndHead(end.BeginRequest(nil, id, &RequestHead{Method: []byte("GET"), Scheme: "http", Authority: []byte("a"), Path: []byte("/")}), true)
				}
				if got := play(t, end, c.in, piece, nil).String(); got != strings.TrimSpace(c.want) {
					t.Errorf("pieces of %d:\n got %s\nwant %s", piece, got, c.want)
				}
			}
		})
	}
}

func TestAConnectionBeginsWithThePrefaceAndSETTINGS(t *testing.T) {
	for _, c := range []struct {
		name   string
		server bool
		in     string
		want   *Error
	}{
		{"HTTP/1.1", true, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", ErrPreface},
		{"TLS", true, "\x16\x03\x01", ErrPreface},
		{"preface with another end", true, clientPreface[:23] + "x", ErrPreface},
		{"PING first, to a server", true, clientPreface + frame(framePing, 0, 0, "01234567"), ErrFirstFrame},
		{"PING first, to a client", false, frame(framePing, 0, 0, "01234567"), ErrFirstFrame},
		{"acknowledgement first", false, ack, ErrFirstFrame},
		{"HTTP/1.1 answer to a client", false, "HTTP/1.1 400 Bad Request\r\n\r\n", ErrFrameTooLarge},
		{"nothing wrong", true, greeting(true), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, piece := range []int{0, 1} {
				end := newConn(c.server, Settings{})
				end.Start(nil)
				p := play(t, end, c.in, piece, nil)
				if c.want == nil && p.err != nil || c.want != nil && p.err != c.want {
					t.Errorf("got %v, want %v", p.err, c.want)
				}
			}
		})
	}
}

func TestAnErrorIsFinalAndItsGOAWAYNamesTheLastStream(t *testing.T) {
	c := open(t, true, Settings{})
	play(t, c, headers(7, true, get()), 0, nil)
	var ev Event
	if _, err := c.Next([]byte(frame(frameData, 0, 0, "x")), &ev); err != ErrStreamZero {
		t.Fatal(err)
	}
	out := c.Output(nil)
	if want := frame(frameGoAway, 0, 0, u32(7, uint32(ProtocolError))+ErrStreamZero.Text); string(out) != want {
		t.Fatalf("got %q, want %q", out, want)
	}
	if _, err := c.Next([]byte(frame(framePing, 0, 0, "01234567")), &ev); err != ErrStreamZero || c.HasOutput() {
		t.Fatal("a connection went on behind its error", err)
	}
}
