package http2

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// FuzzServer and FuzzClient give an end whatever bytes there are behind the greeting, in
// pieces, and answer what it tells. It must not panic, must make progress, must mean the
// same in other pieces, and must hold no more than it says.
func FuzzServer(f *testing.F) {
	f.Add([]byte(headers(1, true, get())+frame(framePing, 0, 0, "01234567")), uint8(3))
	f.Add([]byte(headers(1, false, get())+frame(frameData, flagPadded, 1, "\x01ab\x00")+headers(1, true, block("a: b"))), uint8(1))
	f.Add([]byte(frame(frameHeaders, 0, 1, get()[:5])+frame(frameContinuation, flagEndHeaders|flagEndStream, 1, get()[5:])), uint8(0))
	f.Add([]byte(frame(frameSettings, 0, 0, setting(settingInitialWindow, 1))+headers(1, true, get())+frame(frameWindowUpdate, 0, 1, u32(1))), uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) { fuzzEnd(t, true, in, int(piece)) })
}

func FuzzClient(f *testing.F) {
	f.Add([]byte(headers(1, false, block(":status: 103"))+headers(1, false, block(":status: 200"))+frame(frameData, flagEndStream, 1, "x")), uint8(3))
	f.Add([]byte(headers(3, true, block(":status: 204"))+frame(frameGoAway, 0, 0, u32(1, 0))+frame(frameResetStream, 0, 1, u32(7))), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) { fuzzEnd(t, false, in, int(piece)) })
}

func fuzzEnd(t *testing.T, server bool, in []byte, piece int) {
	whole, out := fuzzRun(t, server, in, 0)
	pieces, outPieces := fuzzRun(t, server, in, 1+piece)
	a, b := whole.String(), pieces.String()
	if whole.err == nil && a != b || fmt.Sprint(whole.err) != fmt.Sprint(pieces.err) {
		t.Fatalf("in pieces of %d:\n%s\nwhole:\n%s", 1+piece, b, a)
	}
	if whole.err == nil && !bytes.Equal(out, outPieces) {
		t.Fatalf("in pieces of %d another answer", 1+piece)
	}
}

func fuzzRun(t *testing.T, server bool, in []byte, piece int) (*played, []byte) {
	c := open(t, server, Settings{ExtendedConnect: true, MaxStreams: 8})
	var out []byte
	if !server {
		for i := range 3 {
			stream, _ := c.OpenStream()
			out = c.BeginRequest(out, stream, &RequestHead{Method: []byte([]string{"GET", "HEAD", "CONNECT"}[i]), Authority: []byte("a:1")})
			out = c.EndHead(out, i == 0)
		}
	}
	p := play(t, c, string(in), piece, func(ev *Event) {
		switch ev.Kind {
		case KindHead:
			checkText(t, ev, server)
			if server && ev.Head.TooLarge {
				out = c.EndHead(c.BeginResponse(out, ev.Stream, 431), true)
			}
		case KindData:
			c.Consumed(ev.Stream, len(ev.Payload))
		}
		if server && ev.End {
			out = c.BeginResponse(out, ev.Stream, 200)
			out = c.appendFieldString(out, "content-type", "a")
			out = c.EndHead(out, false)
			out, _ = c.AppendData(out, ev.Stream, []byte("hello"), false)
			out = c.BeginTrailers(out, ev.Stream)
			out = c.EndHead(out, true)
		}
	})
	if c.streams.n > 8 || len(c.pending) > maxPending || len(c.streams.recent.ids) > maxRecent {
		t.Fatal("more is held than allowed")
	}
	for _, s := range c.streams.slots {
		if s != nil && (s.send.left > maxWindow || s.receive.left < 0 || s.receive.left > s.receive.size || c.streams.growth < 0) {
			t.Fatalf("windows of %+v", s)
		}
	}
	frames(t, c.Output(nil))
	return p, out
}

// checkText says whether the text of a head means to http1 what the head means here.
func checkText(t *testing.T, ev *Event, server bool) {
	h := ev.Head
	if h.TooLarge {
		return
	}
	if !server {
		var a http1.Response
		for _, upgrade := range [][]byte{nil, []byte("websocket")} {
			text := h.AppendResponseText(nil, upgrade)
			a.Reset()
			n, err := a.Parse(text)
			if err != nil || n != len(text) {
				t.Fatalf("%q: %d, %v", text, n, err)
			}
			if want := h.Status(); a.Status != want && !(a.Status == 101 && want/100 == 2 && upgrade != nil && h.connect) {
				t.Fatalf("%q: status %d, not %d", text, a.Status, want)
			}
			if body := a.Body(h.bodiless); body.Chunked() != h.unbounded {
				t.Fatalf("%q: chunked is not %v", text, h.unbounded)
			}
		}
		return
	}
	text := h.AppendRequestText(nil)
	var q http1.Request
	n, err := q.Parse(text)
	if err != nil {
		// What the engine leaves to http1: it is answered, not passed on.
		switch err {
		case http1.ErrHost, http1.ErrTarget, http1.ErrExpect, http1.ErrLineTooLong, http1.ErrTooManyFields, http1.ErrHeadTooLarge:
			return
		}
		t.Fatalf("%q: %v", text, err)
	}
	method, target := h.Method(), h.Path()
	switch {
	case h.upgrade:
		method = []byte("GET")
	case h.connect:
		target = h.Authority()
	}
	if n != len(text) || !bytes.Equal(q.MethodName(), method) || !bytes.Equal(q.Target(), target) || !bytes.Equal(q.Host(), h.Authority()) {
		t.Fatalf("%q: method %q, target %q, host %q", text, q.MethodName(), q.Target(), q.Host())
	}
	if !bytes.Equal(q.Upgrade(), h.Protocol()) {
		t.Fatalf("%q: upgrade to %q, not %q", text, q.Upgrade(), h.Protocol())
	}
	body := q.Body()
	if body.Chunked() != (!ev.End && h.ContentLength() < 0 && !h.connect) {
		t.Fatalf("%q: chunked", text)
	}
	if done := ev.End || h.connect || h.ContentLength() == 0; body.Done() != done {
		t.Fatalf("%q: no body %v, not %v", text, body.Done(), done)
	}
	if !q.KeepAlive() {
		t.Fatalf("%q: closes", text)
	}
	// Every field is one of http1's, by name and value, and there are no others than ours.
	lines := strings.Count(string(text), "\r\n") - 2
	want := 1 + strings.Count(string(h.lines), "\r\n")
	for _, yes := range []bool{len(h.cookie) > 0, h.upgrade, h.trailers, h.trailers || h.upgrade, h.unbounded} {
		if yes {
			want++
		}
	}
	if lines != want {
		t.Fatalf("%q: %d fields, not %d", text, lines, want)
	}
	seen := map[string]bool{}
	for rest := h.lines; len(rest) > 0; {
		var name, value []byte
		name, value, rest = CutField(rest)
		if !seen[string(name)] && !bytes.Equal(q.Value(string(name)), value) {
			t.Fatalf("%q: %s is %q, not %q", text, name, q.Value(string(name)), value)
		}
		seen[string(name)] = true
	}
}

// FuzzRequestHead makes a head of arbitrary pseudo-header fields and two arbitrary other
// fields: what is accepted means the same to http1, and nothing of a name or value is
// taken for another field or a second request (checkText).
func FuzzRequestHead(f *testing.F) {
	for _, s := range [][7]string{
		{"GET", "http", "/", "a", "", "x", "y"},
		{"POST", "https", "/ HTTP/1.1\r\nx: y", "a\r\nb: c", "", "transfer-encoding", "chunked"},
		{"CONNECT", "", "", "a:1", "", "content-length", "5"},
		{"CONNECT", "https", "/chat", "a", "websocket", "cookie", "a=b"},
		{"OPTIONS", "http", "*", "a", "", "host", "b"},
		{"GET", "http", "//evil/..%2f", "u@a", "", "te", "trailers"},
		{"GET", "http", "http://evil/", "a", "", "a:b", "c\nd"},
	} {
		f.Add(s[0], s[1], s[2], s[3], s[4], s[5], s[6], "cookie", "c=d", uint8(0))
	}
	f.Fuzz(func(t *testing.T, method, scheme, path, authority, protocol, name1, value1, name2, value2 string, how uint8) {
		var b []byte
		add := func(name, value string) {
			b = append(b, 0)
			b = appendHpackString(b, []byte(name))
			b = appendHpackString(b, []byte(value))
		}
		for i, p := range [][2]string{{":method", method}, {":scheme", scheme}, {":path", path}, {":authority", authority}, {":protocol", protocol}} {
			if p[1] != "" || how>>i&1 == 1 {
				add(p[0], p[1])
			}
		}
		add(name1, value1)
		add(name2, value2)
		if len(b) > MaxFrame {
			return
		}
		c := open(t, true, Settings{ExtendedConnect: true})
		p := play(t, c, headers(1, how&0x80 != 0, string(b)), 0, func(ev *Event) {
			if ev.Kind == KindHead {
				checkText(t, ev, true)
			}
		})
		if p.err != nil && p.err != ErrBomb {
			t.Fatal(p.err)
		}
	})
}

// What desync attacks on the way from HTTP/2 to HTTP/1.1 send ("HTTP/2: The Sequel is
// Always Worse", Kettle 2021, and what came after): every one of them is refused before
// a text is made of it.
func TestNoDowngradeAttackBecomesText(t *testing.T) {
	smuggled := "\r\n\r\nGET /admin HTTP/1.1\r\nhost: a\r\n\r\n"
	plain := []string{":method: POST", ":scheme: https", ":path: /", ":authority: shop.mesh"}
	for name, fs := range map[string][]string{
		"H2.TE":                       slices.Concat(plain, []string{"transfer-encoding: chunked"}),
		"H2.TE with a tab":            slices.Concat(plain, []string{"transfer-encoding: \tchunked"}),
		"H2.TE in a value":            slices.Concat(plain, []string{"a: b\r\ntransfer-encoding: chunked"}),
		"H2.TE in a value, LF":        slices.Concat(plain, []string{"a: b\ntransfer-encoding: chunked"}),
		"H2.TE in capitals":           slices.Concat(plain, []string{"Transfer-Encoding: chunked"}),
		"H2.TE with a space":          slices.Concat(plain, []string{"transfer-encoding : chunked"}),
		"H2.TE by Connection":         slices.Concat(plain, []string{"connection: transfer-encoding"}),
		"H2.CL twice":                 slices.Concat(plain, []string{"content-length: 0", "content-length: 30"}),
		"H2.CL as a list":             slices.Concat(plain, []string{"content-length: 0, 30"}),
		"H2.CL with a sign":           slices.Concat(plain, []string{"content-length: +0"}),
		"H2.CL in hexadecimal":        slices.Concat(plain, []string{"content-length: 0x10"}),
		"a value that ends the head":  slices.Concat(plain, []string{"a: b" + smuggled}),
		"a value with NUL":            slices.Concat(plain, []string{"a: b\x00" + smuggled}),
		"a method that ends the line": {":method: GET / HTTP/1.1" + smuggled, plain[1], plain[2], plain[3]},
		"a method with a target":      {":method: GET /admin", plain[1], plain[2], plain[3]},
		"a path with a version":       {plain[0], plain[1], ":path: /x HTTP/1.1", plain[3]},
		"a path that ends the line":   {plain[0], plain[1], ":path: / HTTP/1.1" + smuggled, plain[3]},
		"a path with a tab":           {plain[0], plain[1], ":path: /\tx", plain[3]},
		"a path that is absolute":     {plain[0], plain[1], ":path: https://evil/", plain[3]},
		"a path without a slash":      {plain[0], plain[1], ":path: @evil/", plain[3]},
		"two paths":                   {plain[0], plain[1], plain[2], ":path: /admin", plain[3]},
		"two methods":                 {plain[0], ":method: GET", plain[1], plain[2], plain[3]},
		"a scheme with a target":      {plain[0], ":scheme: https://evil/?", plain[2], plain[3]},
		"an authority with a field":   {plain[0], plain[1], plain[2], ":authority: a" + smuggled},
		"an authority with a path":    {plain[0], plain[1], plain[2], ":authority: a/admin?"},
		"an authority with a user":    {plain[0], plain[1], plain[2], ":authority: shop.mesh@evil"},
		"host that differs":           slices.Concat(plain, []string{"host: evil"}),
		"two hosts":                   slices.Concat(plain, []string{"host: shop.mesh", "host: shop.mesh"}),
		"a late pseudo-header field":  slices.Concat(plain, []string{"a: b", ":path: /admin"}),
		"an unknown one":              slices.Concat(plain, []string{":x: y"}),
		"te that is more":             slices.Concat(plain, []string{"te: trailers, chunked"}),
		"an offer to upgrade":         slices.Concat(plain, []string{"upgrade: h2c"}),
		"settings of h2c":             slices.Concat(plain, []string{"http2-settings: AAMAAABkAAQAAP__"}),
	} {
		c := open(t, true, Settings{ExtendedConnect: true})
		if got := play(t, c, headers(1, false, block(fs...)), 0, nil).String(); got != "→ RST 1 PROTOCOL_ERROR" {
			t.Errorf("%s: %s", name, got)
		}
	}
	// Names that the notation above cannot write.
	for _, name := range []string{"", "a:b", "a: b\r\nc", "transfer-encoding: chunked\r\nx", "host\x00", "a\tb", ":", "x\nhost", "content-length "} {
		c := open(t, true, Settings{})
		field := "\x00" + string(appendHpackString(appendHpackString(nil, []byte(name)), []byte("x")))
		if got := play(t, c, headers(1, false, get()+field), 0, nil).String(); got != "→ RST 1 PROTOCOL_ERROR" {
			t.Errorf("name %q: %s", name, got)
		}
	}
}
