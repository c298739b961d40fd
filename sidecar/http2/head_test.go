package http2

import (
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/sidecar/http1"
)

// readHead gives one head to an end and returns what came of it. A client has sent a
// request with the method on stream 1 before.
func readHead(t testing.TB, server bool, method, block string, end bool) (*Conn, *Event, error) {
	c := open(t, server, Settings{ExtendedConnect: true})
	if !server {
		id, _ := c.OpenStream()
		c.EndHead(c.BeginRequest(nil, id, &RequestHead{Method: []byte(method), Scheme: "http", Authority: []byte("a"), Path: []byte("/")}), false)
	}
	ev := new(Event)
	_, err := c.Next([]byte(headers(1, end, block)), ev)
	return c, ev, err
}

// fields makes a head with one field in another way: "-:path" leaves one out, ":path: x"
// gives it another value, and what has no colon in front is added.
func fields(base []string, changes ...string) string {
	all := append([]string(nil), base...)
	for _, change := range changes {
		name, out := strings.CutPrefix(change, "-")
		if !out {
			name = change[:1+strings.IndexByte(change[1:], ':')]
		}
		found := false
		for i, f := range all {
			if strings.HasPrefix(f, name+":") {
				found = true
				if out {
					all = append(all[:i], all[i+1:]...)
				} else {
					all[i] = change
				}
				break
			}
		}
		if !found {
			all = append(all, change)
		}
	}
	return block(all...)
}

func TestARequestHeadIsCheckedAsRFC9113Says(t *testing.T) {
	plain := []string{":method: GET", ":scheme: https", ":path: /a?b=c", ":authority: shop.mesh:80", "accept: */*"}
	connect := []string{":method: CONNECT", ":authority: shop.mesh:80", "user-agent: x"}
	extended := []string{":method: CONNECT", ":scheme: https", ":path: /chat", ":authority: shop.mesh", ":protocol: websocket", "origin: x"}
	for _, c := range []struct {
		block string
		want  string // a part of the fault; empty: accepted
	}{
		{fields(plain), ""},
		{fields(connect), ""},
		{fields(extended), ""},
		// §8.3: pseudo-header fields
		{fields(plain, "-:method"), "missing pseudo"},
		{fields(plain, "-:scheme"), "missing pseudo"},
		{fields(plain, "-:path"), "missing pseudo"},
		{fields(plain, "-:authority"), "neither :authority nor host"},
		{fields(plain, "-:authority", "host: shop.mesh"), ""},
		{fields(plain, ":status: 200"), "behind other fields"},
		{block(":status: 200", ":method: GET", ":scheme: http", ":path: /", ":authority: a"), "unknown or does not belong"},
		{block(":method: GET", ":scheme: http", ":path: /", ":authority: a", ":x: y"), "unknown or does not belong"},
		{block(":method: GET", ":scheme: http", ":path: /", "a: b", ":authority: a"), "behind other fields"},
		{block(":method: GET", ":method: GET", ":scheme: http", ":path: /", ":authority: a"), "repeated pseudo"},
		{block(":method: GET", ":scheme: http", ":path: /", ":path: /b", ":authority: a"), "repeated pseudo"},
		{block(":method: GET", ":scheme: http", ":path: /", ":authority: a", ":authority: b"), "repeated pseudo"},
		{block(":Method: GET", ":scheme: http", ":path: /", ":authority: a"), "unknown or does not belong"},
		{"", "missing pseudo"},
		// values of pseudo-header fields
		{fields(plain, ":method: "), "not a token"},
		{fields(plain, ":method: GE T"), "not a token"},
		{fields(plain, ":method: GET / HTTP/1.1\r\nx: y"), "not a token"},
		{fields(plain, ":method: get"), ""},
		{fields(plain, ":scheme: ftp"), "scheme"},
		{fields(plain, ":scheme: http://evil/?"), "scheme"},
		{fields(plain, ":scheme: "), "scheme"},
		{fields(plain, ":path: "), ":path"},
		{fields(plain, ":path: a"), ":path"},
		{fields(plain, ":path: *"), ":path"},
		{fields(plain, ":method: OPTIONS", ":path: *"), ""},
		{fields(plain, ":path: /a b"), ":path"},
		{fields(plain, ":path: / HTTP/1.1\r\nx: y\r\n\r\n"), ":path"},
		{fields(plain, ":path: /\x00"), ":path"},
		{fields(plain, ":path: /\x7f"), ":path"},
		{fields(plain, ":path: /ä"), ":path"},
		{fields(plain, ":path: /a#b"), ":path"},
		{fields(plain, ":path: http://evil/"), ":path"},
		{fields(plain, ":authority: "), ":authority"},
		{fields(plain, ":authority: a b"), ":authority"},
		{fields(plain, ":authority: user@shop.mesh"), ":authority"},
		{fields(plain, ":authority: shop.mesh/x"), ":authority"},
		{fields(plain, ":authority: a,b"), ":authority"},
		{fields(plain, ":authority: a\r\nx: y"), ":authority"},
		{fields(plain, ":authority: [::1]:80"), ""},
		{fields(plain, "host: shop.mesh:80"), ""},
		{fields(plain, "host: SHOP.mesh:80"), ""},
		{fields(plain, "host: evil"), "differs"},
		{fields(plain, "host: "), "not an authority"},
		{fields(plain, "host: shop.mesh:80", "accept: */*") + block("host: shop.mesh:80"), "repeated"},
		// §8.2: names and values
		{fields(plain, "Accept: x"), "lower case"},
		{fields(plain, "a b: x"), "not a token"},
		{fields(plain) + "\x00\x00\x01x", "empty"},
		{fields(plain) + "\x00" + string(appendHpackString(appendHpackString(nil, []byte("a:b")), []byte("x"))), "not a token"},
		{fields(plain, "a\r\nb: x"), "not a token"},
		{fields(plain, "a\xff: x"), "not a token"},
		{fields(plain, "a: x\r\ny: z"), "control bytes"},
		{fields(plain, "a: x\ny"), "control bytes"},
		{fields(plain, "a: x\ry"), "control bytes"},
		{fields(plain, "a: x\x00y"), "control bytes"},
		{fields(plain, "a: 12345678\x7f12345678"), "control bytes"},
		{fields(plain, "a:  x"), "space around"},
		{fields(plain, "a: x "), "space around"},
		{fields(plain, "a: x\t"), "space around"},
		{fields(plain, "a: x\ty"), ""},
		{fields(plain, "a: "), ""},
		{fields(plain, "a: \xe4\xff"), ""},
		// §8.2.2: connection-specific fields
		{fields(plain, "connection: close"), "connection of HTTP/1.1"},
		{fields(plain, "keep-alive: 1"), "connection of HTTP/1.1"},
		{fields(plain, "proxy-connection: x"), "connection of HTTP/1.1"},
		{fields(plain, "transfer-encoding: chunked"), "connection of HTTP/1.1"},
		{fields(plain, "upgrade: h2c"), "connection of HTTP/1.1"},
		{fields(plain, "http2-settings: x"), "connection of HTTP/1.1"},
		{fields(plain, "te: trailers"), ""},
		{fields(plain, "te: gzip"), "te other"},
		{fields(plain, "te: trailers, gzip"), "te other"},
		// content-length
		{fields(plain, "content-length: 0"), ""},
		{fields(plain, "content-length: x"), "content-length"},
		{fields(plain, "content-length: +1"), "content-length"},
		{fields(plain, "content-length: "), "content-length"},
		{fields(plain, "content-length: 0, 0"), "content-length"},
		{fields(plain, "content-length: 9223372036854775808"), "content-length"},
		{fields(plain, "content-length: 0") + block("content-length: 0"), "repeated"},
		// §8.5: CONNECT
		{fields(connect, "-:authority"), "missing pseudo"},
		{block(":method: CONNECT", ":authority: a:1", ":path: /"), "does not have"},
		{block(":method: CONNECT", ":authority: a:1", ":scheme: http"), "does not have"},
		{fields(connect, "content-length: 5"), "content-length of a CONNECT"},
		// RFC 8441
		{fields(extended, "-:authority", "host: a"), "missing pseudo"},
		{fields(extended, "-:path"), "missing pseudo"},
		{fields(extended, "-:scheme"), "missing pseudo"},
		{fields(extended, ":method: GET"), "not offered, or not with CONNECT"},
		{fields(extended, ":protocol: "), "malformed"},
		{fields(extended, ":protocol: web socket"), "malformed"},
		{fields(extended, ":protocol: a, b"), "malformed"},
		{fields(extended, ":protocol: h2c"), "malformed"},
		{fields(extended, ":protocol: H2C-14"), "malformed"},
		{fields(extended, "content-length: 5"), "content-length of a CONNECT"},
	} {
		_, ev, err := readHead(t, true, "", c.block, true)
		if err != nil {
			t.Fatalf("%q: %v", c.block, err)
		}
		if got := ev.Text; c.want == "" && ev.Kind != KindHead || !strings.Contains(got, c.want) || (ev.Kind == KindReset) != (c.want != "") {
			t.Errorf("%q:\n got %q, kind %d\nwant %q", c.block, got, ev.Kind, c.want)
		}
	}
}

func TestAnExtendedCONNECTThatWasNotOfferedIsRefused(t *testing.T) {
	c := open(t, true, Settings{})
	in := headers(1, false, block(":method: CONNECT", ":scheme: http", ":path: /", ":authority: a", ":protocol: websocket"))
	if got := play(t, c, in, 0, nil).String(); got != "→ RST 1 PROTOCOL_ERROR" {
		t.Fatal(got)
	}
}

func TestAResponseHeadIsCheckedAsRFC9113Says(t *testing.T) {
	plain := []string{":status: 200", "server: x"}
	for _, c := range []struct {
		block string
		want  string
	}{
		{fields(plain), ""},
		{fields(plain, ":status: 599"), ""},
		{fields(plain, "-:status"), "no :status"},
		{fields(plain, ":status: 20"), "three digits"},
		{fields(plain, ":status: 0200"), "three digits"},
		{fields(plain, ":status: 099"), "three digits"},
		{fields(plain, ":status: +20"), "three digits"},
		{fields(plain, ":status: 200 OK"), "three digits"},
		{block(":status: 200", ":status: 200"), "repeated pseudo"},
		{block(":status: 200", ":path: /"), "does not belong"},
		{block("a: b", ":status: 200"), "behind other fields"},
		{fields(plain, "te: trailers"), "te other"},
		{fields(plain, "host: a"), "not of a request"},
		{fields(plain, "connection: close"), "connection of HTTP/1.1"},
		{fields(plain, "transfer-encoding: chunked"), "connection of HTTP/1.1"},
		{fields(plain, "a: b\r\nc: d"), "control bytes"},
		{fields(plain, "set-cookie: a") + block("set-cookie: b"), ""},
		{fields(plain, "content-length: 5"), "less DATA"},
		{fields(plain, ":status: 101"), "101"},
		{fields(plain, ":status: 100"), "interim"},
	} {
		_, ev, err := readHead(t, false, "GET", c.block, true)
		if err != nil {
			t.Fatalf("%q: %v", c.block, err)
		}
		if got := ev.Text; c.want == "" && ev.Kind != KindHead || !strings.Contains(got, c.want) || (ev.Kind == KindReset) != (c.want != "") {
			t.Errorf("%q:\n got %q, kind %d\nwant %q", c.block, got, ev.Kind, c.want)
		}
	}
}

func TestATrailerSectionHasNoPseudoHeaderAndNothingOfTheConnection(t *testing.T) {
	for trailers, want := range map[string]string{
		"grpc-status: 0":           "head 1, trailers 1",
		":status: 200":             "head 1 → RST 1 PROTOCOL_ERROR",
		":path: /":                 "head 1 → RST 1 PROTOCOL_ERROR",
		"content-length: 0":        "head 1 → RST 1 PROTOCOL_ERROR",
		"host: a":                  "head 1 → RST 1 PROTOCOL_ERROR",
		"te: trailers":             "head 1 → RST 1 PROTOCOL_ERROR",
		"transfer-encoding: chunk": "head 1 → RST 1 PROTOCOL_ERROR",
		"connection: close":        "head 1 → RST 1 PROTOCOL_ERROR",
		"A: b":                     "head 1 → RST 1 PROTOCOL_ERROR",
	} {
		c := open(t, true, Settings{})
		in := headers(1, false, get()) + headers(1, true, block(trailers))
		if got := play(t, c, in, 0, nil).String(); got != want {
			t.Errorf("%s: got %s, want %s", trailers, got, want)
		}
	}
}

// What comes out as HTTP/1.1, and what the strict parser makes of it.
func TestARequestHeadIsWrittenAsHTTP11(t *testing.T) {
	for _, c := range []struct {
		block string
		end   bool
		want  string
	}{
		{get("x-a: 1", "accept: */*"), true, "GET / HTTP/1.1\r\nhost: shop.mesh\r\nx-a: 1\r\naccept: */*\r\n\r\n"},
		{get("cookie: a=1", "x: y", "cookie: b=2", "cookie: ", "cookie: c=3"), true, "GET / HTTP/1.1\r\nhost: shop.mesh\r\nx: y\r\ncookie: a=1; b=2; c=3\r\n\r\n"},
		{get("te: trailers"), true, "GET / HTTP/1.1\r\nhost: shop.mesh\r\nte: trailers\r\nconnection: te\r\n\r\n"},
		{get("host: shop.mesh"), true, "GET / HTTP/1.1\r\nhost: shop.mesh\r\n\r\n"},
		{block(":method: GET", ":scheme: http", ":path: /", "host: old"), true, "GET / HTTP/1.1\r\nhost: old\r\n\r\n"},
		{get(), false, "GET / HTTP/1.1\r\nhost: shop.mesh\r\ntransfer-encoding: chunked\r\n\r\n"},
		{get("content-length: 3"), false, "GET / HTTP/1.1\r\nhost: shop.mesh\r\ncontent-length: 3\r\n\r\n"},
		{block(":method: OPTIONS", ":scheme: http", ":path: *", ":authority: a"), true, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"},
		{block(":method: CONNECT", ":authority: a:80"), false, "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n"},
		{block(":method: CONNECT", ":scheme: http", ":path: /chat", ":authority: a", ":protocol: websocket", "te: trailers", "sec-websocket-version: 13"), false,
			"GET /chat HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\nupgrade: websocket\r\nte: trailers\r\nconnection: te, upgrade\r\n\r\n"},
	} {
		_, ev, err := readHead(t, true, "", c.block, c.end)
		if err != nil || ev.Kind != KindHead {
			t.Fatalf("%q: %v %+v", c.block, err, ev)
		}
		text := ev.Head.AppendRequestText(nil)
		if string(text) != c.want {
			t.Errorf("got %q, want %q", text, c.want)
		}
		var q http1.Request
		if n, err := q.Parse(text); n != len(text) || err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if ev.Head.upgrade && string(q.Upgrade()) != string(ev.Head.Protocol()) {
			t.Errorf("%q: upgrade to %q", text, q.Upgrade())
		}
	}
}

func TestAResponseHeadIsWrittenAsHTTP11(t *testing.T) {
	for _, c := range []struct {
		method, block string
		end           bool
		upgrade       string
		want          string
	}{
		{"GET", block(":status: 200", "a: b"), false, "", "HTTP/1.1 200 \r\na: b\r\ntransfer-encoding: chunked\r\n\r\n"},
		{"GET", block(":status: 200", "content-length: 4"), false, "", "HTTP/1.1 200 \r\ncontent-length: 4\r\n\r\n"},
		{"GET", block(":status: 503"), true, "", "HTTP/1.1 503 \r\ncontent-length: 0\r\n\r\n"},
		{"GET", block(":status: 103", "link: x"), false, "", "HTTP/1.1 103 \r\nlink: x\r\n\r\n"},
		{"GET", block(":status: 204"), true, "", "HTTP/1.1 204 \r\n\r\n"},
		{"GET", block(":status: 304"), false, "", "HTTP/1.1 304 \r\n\r\n"},
		{"HEAD", block(":status: 200"), true, "", "HTTP/1.1 200 \r\n\r\n"},
		{"HEAD", block(":status: 200", "content-length: 4"), true, "", "HTTP/1.1 200 \r\ncontent-length: 4\r\n\r\n"},
		{"CONNECT", block(":status: 200"), false, "", "HTTP/1.1 200 \r\n\r\n"},
		{"CONNECT", block(":status: 200"), false, "websocket", "HTTP/1.1 101 \r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"},
		{"CONNECT", block(":status: 403"), true, "websocket", "HTTP/1.1 403 \r\ncontent-length: 0\r\n\r\n"},
		{"GET", block(":status: 200", "set-cookie: a", "set-cookie: b", "cookie: c"), true, "", "HTTP/1.1 200 \r\nset-cookie: a\r\nset-cookie: b\r\ncookie: c\r\ncontent-length: 0\r\n\r\n"},
	} {
		_, ev, err := readHead(t, false, c.method, c.block, c.end)
		if err != nil || ev.Kind != KindHead {
			t.Fatalf("%q: %v %+v", c.block, err, ev)
		}
		var upgrade []byte
		if c.upgrade != "" {
			upgrade = []byte(c.upgrade)
		}
		text := ev.Head.AppendResponseText(nil, upgrade)
		if string(text) != c.want {
			t.Errorf("got %q, want %q", text, c.want)
		}
		var a http1.Response
		if n, err := a.Parse(text); n != len(text) || err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if string(a.Upgraded()) != c.upgrade && a.Status == 101 {
			t.Errorf("%q: upgraded to %q", text, a.Upgraded())
		}
	}
}

func TestATooLargeHeadLeavesTheConnectionInStep(t *testing.T) {
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("x-%d: y", i)
	}
	for name, large := range map[string]string{
		"size":   get("a: "+strings.Repeat("x", 40<<10), "b: "+strings.Repeat("y", 30<<10)),
		"fields": get(many...),
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, true, Settings{})
			// A field that is put into the table behind those that are too much, and used by
			// the next head.
			indexed := "\x40" + string(appendHpackString(appendHpackString(nil, []byte("late")), []byte("entry")))
			in := frame(frameHeaders, flagEndStream, 1, "")
			for rest := large + indexed; ; {
				n := min(len(rest), MaxFrame)
				var flags uint8
				if n == len(rest) {
					flags = flagEndHeaders
				}
				in += frame(frameContinuation, flags, 1, rest[:n])
				if rest = rest[n:]; rest == "" {
					break
				}
			}
			in += headers(3, true, get()+"\xbe")
			var out []byte
			late := ""
			p := play(t, c, in, 0, func(ev *Event) {
				if ev.Kind == KindHead && ev.Head.TooLarge {
					out = c.EndHead(c.BeginResponse(out, ev.Stream, 431), true)
				} else if ev.Kind == KindHead {
					late = string(ev.Head.Value("late"))
				}
			})
			if got := p.String(); got != "too large 1., head 3." || late != "entry" || len(out) == 0 || c.Streams() != 1 {
				t.Fatal(got, late, c.Streams())
			}
		})
	}
}

func TestCrumbsOfACookieAreOneField(t *testing.T) {
	crumbs := make([]string, 0, 150)
	for i := range 150 {
		crumbs = append(crumbs, fmt.Sprintf("cookie: c%d=v", i))
	}
	_, ev, err := readHead(t, true, "", get(crumbs...), true)
	if err != nil || ev.Kind != KindHead || ev.Head.TooLarge {
		t.Fatal(err, ev)
	}
	if text := string(ev.Head.AppendRequestText(nil)); strings.Count(text, "cookie: ") != 1 || !strings.Contains(text, "c0=v; c1=v; ") || !strings.Contains(text, "; c149=v\r\n") {
		t.Fatal(text)
	}
}
