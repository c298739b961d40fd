package http1

import (
	"errors"
	"strings"
	"testing"
)

func request(t *testing.T, s string) (*Request, int) {
	t.Helper()
	var r Request
	n, err := r.Parse([]byte(s))
	if err != nil || n == 0 {
		t.Fatalf("Parse(%q) = %d, %v; want a whole head", s, n, err)
	}
	return &r, n
}

func TestARequestHeadIsReadWhole(t *testing.T) {
	const head = "POST /cart?id=1 HTTP/1.1\r\nHost: Orders.shop.mesh:80\r\nContent-Length: 5\r\nX-Empty:\r\nX-Pad: \t a b \t\r\n\r\n"
	r, n := request(t, head+"hello")
	if n != len(head) {
		t.Errorf("head of %d bytes, want %d", n, len(head))
	}
	if r.Method != Post || string(r.MethodName()) != "POST" || string(r.Target()) != "/cart?id=1" || string(r.Host()) != "Orders.shop.mesh:80" {
		t.Errorf("got %s %s for %s", r.MethodName(), r.Target(), r.Host())
	}
	if !r.KeepAlive() || r.IsHTTP10() || r.Expects() || r.Upgrade() != nil {
		t.Error("an ordinary request has a special property")
	}
	if v := r.Value("x-pad"); string(v) != "a b" {
		t.Errorf("X-Pad is %q, want %q", v, "a b")
	}
	if v := r.Value("x-empty"); v == nil || len(v) != 0 {
		t.Errorf("X-Empty is %q, want empty", v)
	}
	b := r.Body()
	if n, err := b.Scan([]byte("hello, and more")); n != 5 || err != nil || !b.Done() {
		t.Errorf("body of %d bytes, %v, want 5", n, err)
	}
}

func TestAHeadThatArrivesByteByByteIsTheSame(t *testing.T) {
	const head = "\r\nGET http://orders.shop.mesh/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	var r Request
	for i := 1; i < len(head); i++ {
		// A fresh copy each time: the parser must not keep pointers.
		if n, err := r.Parse([]byte(head[:i])); n != 0 || err != nil {
			t.Fatalf("after %d bytes: %d, %v", i, n, err)
		}
	}
	n, err := r.Parse([]byte(head))
	if n != len(head) || err != nil {
		t.Fatalf("Parse = %d, %v; want %d", n, err, len(head))
	}
	if string(r.Host()) != "orders.shop.mesh" || r.KeepAlive() {
		t.Errorf("host %q, keep-alive %v", r.Host(), r.KeepAlive())
	}
}

func TestWhatIsAmbiguousInARequestIsRefused(t *testing.T) {
	const ok = "GET / HTTP/1.1\r\nHost: a\r\n"
	for _, c := range []struct {
		name string
		head string
		want *Error
	}{
		{"length and coding", ok + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", ErrLengthAndTE},
		{"coding and length", ok + "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", ErrLengthAndTE},
		{"two lengths", ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", ErrLength},
		{"two equal lengths", ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", ErrLength},
		{"list of lengths", ok + "Content-Length: 1, 1\r\n\r\n", ErrLength},
		{"signed length", ok + "Content-Length: +1\r\n\r\n", ErrLength},
		{"negative length", ok + "Content-Length: -1\r\n\r\n", ErrLength},
		{"hexadecimal length", ok + "Content-Length: 0x1\r\n\r\n", ErrLength},
		{"empty length", ok + "Content-Length:\r\n\r\n", ErrLength},
		{"length beyond 63 bits", ok + "Content-Length: 9223372036854775808\r\n\r\n", ErrLength},
		{"length beyond 64 bits", ok + "Content-Length: 18446744073709551617\r\n\r\n", ErrLength},
		{"unknown coding before chunked", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n", ErrCoding},
		{"coding with parameters before chunked", ok + "Transfer-Encoding: foo;a=b ,\tChunked\r\n\r\n", ErrCoding},
		{"coding that hides", ok + "Transfer-Encoding: xchunked\r\n\r\n", ErrNotChunked},
		{"coding twice", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", ErrNotChunked},
		{"coding in two fields", ok + "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", ErrNotChunked},
		{"chunked twice in one", ok + "Transfer-Encoding: chunked, chunked\r\n\r\n", ErrNotChunked},
		{"chunked not last", ok + "Transfer-Encoding: chunked, gzip\r\n\r\n", ErrNotChunked},
		{"not chunked at all", ok + "Transfer-Encoding: gzip\r\n\r\n", ErrNotChunked},
		{"no coding", ok + "Transfer-Encoding:\r\n\r\n", ErrNotChunked},
		{"no coding but white space", ok + "Transfer-Encoding: \t \r\n\r\n", ErrNotChunked},
		{"no coding before chunked", ok + "Transfer-Encoding: ,chunked\r\n\r\n", ErrNotChunked},
		{"no coding behind chunked", ok + "Transfer-Encoding: chunked,\r\n\r\n", ErrNotChunked},
		{"no token before chunked", ok + "Transfer-Encoding: a b, chunked\r\n\r\n", ErrNotChunked},
		{"quoted coding", ok + "Transfer-Encoding: \"chunked\"\r\n\r\n", ErrNotChunked},
		{"identity coding", ok + "Transfer-Encoding: identity\r\n\r\n", ErrNotChunked},
		{"coding with a tail", ok + "Transfer-Encoding: chunked;a=b\r\n\r\n", ErrNotChunked},
		{"chunked of old", "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", ErrChunkedHTTP10},
		{"bare LF after the line", "GET / HTTP/1.1\nHost: a\r\n\r\n", ErrBareLF},
		{"bare LF after a field", ok + "A: b\n\r\n", ErrBareLF},
		{"bare LF at the end", ok + "\n", ErrBareLF},
		{"bare CR in a value", ok + "A: b\rc\r\n\r\n", ErrBareCR},
		{"CR CR LF", ok + "A: b\r\r\n\r\n", ErrBareCR},
		{"NUL in a value", ok + "A: b\x00c\r\n\r\n", ErrControl},
		{"NUL late in a long value", ok + "A: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\x00\r\n\r\n", ErrControl},
		{"DEL in a value", ok + "A: aaaaaaaaaaaa\x7faaaaaaaaaaaaaaaaaa\r\n\r\n", ErrControl},
		{"folded line", ok + "A: b\r\n c\r\n\r\n", ErrFold},
		{"folded by tab", ok + "A: b\r\n\tc\r\n\r\n", ErrFold},
		{"space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", ErrFold},
		{"space before colon", ok + "Content-Length : 1\r\n\r\n", ErrFieldName},
		{"space in a name", ok + "A B: c\r\n\r\n", ErrFieldName},
		{"no colon", ok + "Abc\r\n\r\n", ErrFieldName},
		{"no name", ok + ": b\r\n\r\n", ErrFieldName},
		{"obs-text in a name", ok + "\xc3\xa9: b\r\n\r\n", ErrFieldName},
		{"no host", "GET / HTTP/1.1\r\n\r\n", ErrHost},
		{"two hosts", ok + "Host: b\r\n\r\n", ErrHost},
		{"host with userinfo", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", ErrHost},
		{"host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", ErrHost},
		{"list of hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", ErrHost},
		{"no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", ErrRequestLine},
		{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"tab in the line", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", ErrMethod},
		{"space at the end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", ErrRequestLine},
		{"space at the start", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", ErrRequestLine},
		{"two empty lines before", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ErrRequestLine},
		{"method that is no token", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", ErrMethod},
		{"HTTP/0.9", "GET /\r\n", ErrRequestLine},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\n", ErrHTTP2},
		{"HTTP/2 without its preface", "GET / HTTP/2.0\r\n\r\n", ErrVersion},
		{"TLS", "\x16\x03\x01\x02", ErrTLS},
		{"another binary protocol", "\x00\x00\x00\x08", ErrControl},
		{"raw non-ASCII target", "GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"raw non-ASCII query", "GET /?caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"raw non-ASCII absolute target", "GET http://a/caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"raw 0x80 in a target", "GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"backslash in a path", "GET /a\\..\\b HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"escape that is none", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"half an escape", "GET /%2 HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"escape up to the query", "GET /%2?a HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"fragment behind a query", "GET /?a#b HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", ErrVersion},
		{"lower-case version", "GET / http/1.1\r\nHost: a\r\n\r\n", ErrRequestLine},
		{"relative target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"asterisk for GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"foreign scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"absolute with userinfo", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"absolute without authority", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"CONNECT to a path", "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", ErrTarget},
		{"unknown expectation", ok + "Expect: 200-ok\r\n\r\n", ErrExpect},
		{"connection that is no token", ok + "Connection: a b\r\n\r\n", ErrConnection},
		{"too many nominations", ok + "Connection: " + strings.Repeat("a,", maxListed+1) + "\r\n\r\n", ErrConnection},
		{"too many fields", ok + strings.Repeat("A: b\r\n", MaxFields) + "\r\n", ErrTooManyFields},
		{"long line", "GET /" + strings.Repeat("a", MaxLine) + " HTTP/1.1\r\n", ErrLineTooLong},
		{"endless line", strings.Repeat("a", MaxLine+1), ErrLineTooLong},
		{"large head", ok + "A: " + strings.Repeat("a", MaxHead) + "\r\n\r\n", ErrHeadTooLarge},
		{"endless head", ok + "A: " + strings.Repeat("a", MaxHead), ErrHeadTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Request
			n, err := r.Parse([]byte(c.head))
			if n != 0 || !errors.Is(err, c.want) {
				t.Errorf("Parse = %d, %v; want %v", n, err, c.want)
			}
		})
	}
}

func TestUnusualButPlainRequestsPass(t *testing.T) {
	for _, s := range []string{
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
		"GET /caf%C3%a9 HTTP/1.1\r\nHost: a\r\nX: caf\xc3\xa9\r\n\r\n",
		"GET /a|b[c]{d}^`\"<> HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /?a=100%&b=\\%zz|[{ HTTP/1.1\r\nHost: a\r\n\r\n",
		"BREW /pot HTTP/1.1\r\nhOST: a\r\n\r\n",
		"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0009\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nA: b\tc\r\n\r\n",
	} {
		request(t, s)
	}
}

func TestKeepAliveFollowsVersionAndConnection(t *testing.T) {
	for s, want := range map[string]bool{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                                            true,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n":                       false,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, close\r\n\r\n":                  false,
		"GET / HTTP/1.0\r\n\r\n":                                                       false,
		"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n":                             true,
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n":        false,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: x\r\n\r\n": true,
	} {
		if r, _ := request(t, s); r.KeepAlive() != want {
			t.Errorf("%q: keep-alive %v, want %v", s, !want, want)
		}
	}
}

func TestOnlyOnePlainUpgradeOfferCounts(t *testing.T) {
	const ok = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
	for s, want := range map[string]string{
		ok + "Upgrade: websocket\r\n\r\n":                                     "websocket",
		ok + "Upgrade: h2c\r\n\r\n":                                           "",
		ok + "Upgrade: H2C, websocket\r\n\r\n":                                "",
		ok + "Upgrade: a\r\nUpgrade: b\r\n\r\n":                               "",
		ok + "\r\n":                                                           "",
		ok + "Upgrade: websocket\r\nContent-Length: 3\r\n\r\n":                "websocket",
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n":             "",
		"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n": "",
	} {
		if r, _ := request(t, s); string(r.Upgrade()) != want {
			t.Errorf("%q: upgrade %q, want %q", s, r.Upgrade(), want)
		}
	}
}

func TestAResponseHeadIsRead(t *testing.T) {
	for _, c := range []struct {
		head   string
		toHead bool
		status int
		keep   bool
		body   bodyState
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false, 200, true, fixed},
		{"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, 200, true, done},
		{"HTTP/1.1 200 \r\nTransfer-Encoding: Chunked\r\n\r\n", false, 200, true, chunkSize},
		{"HTTP/1.1 200 OK\r\n\r\n", false, 200, true, untilClose},
		{"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", false, 200, false, fixed},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n", false, 200, false, fixed},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, 200, true, done},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", false, 304, true, done},
		{"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false, 204, true, done},
		{"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", false, 103, true, done},
		{"HTTP/1.1 200 OK\r\nHost: a\r\nHost: b\r\nExpect: x\r\nContent-Length: 1\r\n\r\n", false, 200, true, fixed},
	} {
		var r Response
		n, err := r.Parse([]byte(c.head))
		if n != len(c.head) || err != nil {
			t.Errorf("%q: %d, %v", c.head, n, err)
			continue
		}
		if r.Status != c.status || r.KeepAlive() != c.keep || r.Body(c.toHead).state != c.body {
			t.Errorf("%q: status %d, keep-alive %v, body %d", c.head, r.Status, r.KeepAlive(), r.Body(c.toHead).state)
		}
	}
}

func TestWhatIsAmbiguousInAResponseIsRefused(t *testing.T) {
	for head, want := range map[string]*Error{
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": ErrLengthAndTE,
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n":          ErrLength,
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n":                      ErrChunkedHTTP10,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n":                         ErrNotChunked,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n":                ErrCoding,
		"\x15\x03\x01\x00\x02\x02\x46":                                               ErrTLS,
		"\x00\x00\x12\x04\x00":                                                       ErrStatusLine,
		"SSH-2.0":                                                                    ErrStatusLine,
		"HTTP/1.1 200 OK\nA: b\r\n\r\n":                                              ErrBareLF,
		"HTTP/1.1 20 OK\r\n\r\n":                                                     ErrStatusLine,
		"HTTP/1.1 2000 OK\r\n\r\n":                                                   ErrStatusLine,
		"HTTP/1.1  200 OK\r\n\r\n":                                                   ErrStatusLine,
		"HTTP/1.1 099 OK\r\n\r\n":                                                    ErrStatusLine,
		"HTTP/2.0 200 OK\r\n\r\n":                                                    ErrStatusLine,
		"HTTP/1.2 200 OK\r\n\r\n":                                                    ErrVersion,
		"ICY 200 OK\r\n\r\n":                                                         ErrStatusLine,
		"\r\nHTTP/1.1 200 OK\r\n\r\n":                                                ErrStatusLine,
	} {
		var r Response
		if n, err := r.Parse([]byte(head)); n != 0 || !errors.Is(err, want) {
			t.Errorf("%q: %d, %v; want %v", head, n, err, want)
		}
	}
}

func TestParsingAndWritingAllocateNothing(t *testing.T) {
	req := []byte("POST /a HTTP/1.1\r\nHost: a\r\nConnection: x-drop\r\nX-Drop: 1\r\nUser-Agent: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n")
	resp := []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello")
	var (
		q   Request
		a   Response
		out = make([]byte, 0, 4096)
		on  = RequestRewrite{Host: "x", RequestID: []byte("id"), Proto: "http", ClientCert: "URI=spiffe://a"}
		bk  = ResponseRewrite{Via: "isthmus"}
	)
	if n := testing.AllocsPerRun(100, func() {
		q.Reset()
		n, err := q.Parse(req)
		if err != nil {
			t.Fatal(err)
		}
		b := q.Body()
		if _, err := b.Scan(req[n:]); err != nil || !b.Done() {
			t.Fatal(err)
		}
		out = AppendRequest(out[:0], &q, &on)
		a.Reset()
		n, err = a.Parse(resp)
		if err != nil {
			t.Fatal(err)
		}
		b = a.Body(false)
		if _, err := b.Scan(resp[n:]); err != nil || !b.Done() {
			t.Fatal(err)
		}
		out = AppendResponse(out[:0], &a, &bk)
	}); n != 0 {
		t.Errorf("an exchange allocates %v times, want 0", n)
	}
}
