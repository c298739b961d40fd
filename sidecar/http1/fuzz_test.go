package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// FuzzRequestAgainstNetHTTP compares with net/http: what this package accepts,
// net/http accepts with the same meaning, and the rewritten head means the same to
// it; and the split of the input into pieces changes nothing. The converse does not
// hold: net/http forgives more.
func FuzzRequestAgainstNetHTTP(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /a?b HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
		"GET http://a/b HTTP/1.1\r\nHost: c\r\nConnection: close, A\r\nA: b\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost:\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"\r\nHEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
		"GET /%2f?%zz&caf\xc3\xa9 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET http://[1::2]:/?\\ HTTP/1.1\r\nHost: a,b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a%2d\r\nConnection: TE, upgrade\r\nTE: gzip, trailers\r\nUpgrade: tcp\r\nContent-Length: 1\r\n\r\nx",
		"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		var r, slow Request
		n, err := r.Parse(in)
		slowN, slowErr := 0, error(nil)
		for i := 0; i < len(in) && slowN == 0 && slowErr == nil; {
			i = min(i+int(piece)+1, len(in))
			slowN, slowErr = slow.Parse(bytes.Clone(in[:i]))
		}
		if len(in) > 0 && (slowN != n || slowErr != err) {
			t.Fatalf("whole: %d, %v; in pieces: %d, %v", n, err, slowN, slowErr)
		}
		if n == 0 || err != nil {
			return
		}
		if r.Method == Connect || bytes.HasPrefix(in, []byte("\r\n")) {
			return // net/http dislikes the empty line; CONNECT is refused by the driver
		}
		theirs, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(in), MaxHead))
		if err != nil {
			// net/url reads the host of an absolute-form target in its own way: it
			// refuses escapes there, and sub-delims that RFC 3986 allows.
			if r.absolute && strings.Contains(err.Error(), "parse ") {
				return
			}
			t.Fatalf("accepted what net/http refuses: %v", err)
		}
		compare(t, &r, in[n:], theirs)

		// The next hop reads the rewritten head in the same way.
		onward := AppendRequest(nil, &r, &RequestRewrite{Host: "orders.shop.mesh", RequestID: []byte("id"), Proto: "http"})
		var again Request
		m, err := again.Parse(onward)
		if m != len(onward) || err != nil {
			t.Fatalf("wrote a head that we refuse: %d of %d, %v\n%q", m, len(onward), err, onward)
		}
		if again.Method != r.Method || again.length != r.length || again.chunked != r.chunked || again.http10 {
			t.Fatalf("%q became %q", in[:n], onward)
		}
		first := Request{}
		first.LeaveRoom = true
		if n, err := first.Parse(in); n > 0 && err == nil && len(AppendRequest(nil, &first, &RequestRewrite{})) > len(in[:n])+requestRoom {
			t.Fatalf("%q grew by more than there is room for: %q", in[:n], onward)
		}
		if string(again.Path()) != string(r.Path()) {
			t.Fatalf("path %q was judged, and %q is passed on", r.Path(), again.Path())
		}
		judgedAsPassedOn(t, &r, &again)
		if len(r.Host()) > 0 && string(again.Host()) != string(r.Host()) {
			t.Fatalf("host %q became %q", r.Host(), again.Host())
		}
	})
}

// judgedAsPassedOn checks that the fields of which whoever decides about r is told are
// those that stand in the head that was made of it.
func judgedAsPassedOn(t *testing.T, r, onward *Request) {
	t.Helper()
	written := map[string][]string{}
	for i := range onward.fields[:onward.n] {
		f := &onward.fields[i]
		name := strings.ToLower(string(onward.bytes(f.name)))
		if f.kind == requestID && !r.hasID || f.kind == forwardedProto && !r.hasProto || f.kind == te || f.kind == connection || f.kind == transferEncoding || f.kind == host {
			continue // ours
		}
		written[name] = append(written[name], string(onward.bytes(f.value)))
	}
	for i := range r.fields[:r.n] { // and what is not written must not be found
		if f := &r.fields[i]; f.kind != host {
			if name := strings.ToLower(string(r.bytes(f.name))); written[name] == nil {
				written[name] = []string{}
			}
		}
	}
	judged := Forwarded{Request: r}
	for name, want := range written {
		for n := 0; ; n++ {
			v, ok := judged.Value(name, n)
			if ok != (n < len(want)) || ok && string(v) != want[n] {
				t.Fatalf("value %d of %s is judged as %q, %t, and passed on as %q", n, name, v, ok, want)
			}
			if !ok {
				break
			}
		}
	}
}

func compare(t *testing.T, r *Request, rest []byte, theirs *http.Request) {
	t.Helper()
	if string(r.MethodName()) != theirs.Method || string(r.Target()) != theirs.RequestURI {
		t.Fatalf("%q %q, net/http says %q %q", r.MethodName(), r.Target(), theirs.Method, theirs.RequestURI)
	}
	if got := string(r.Host()); got != theirs.Host && !r.absolute {
		t.Fatalf("host %q, net/http says %q", got, theirs.Host)
	}
	if r.chunked != (len(theirs.TransferEncoding) > 0) {
		t.Fatalf("chunked %v, net/http says %v", r.chunked, theirs.TransferEncoding)
	}
	if !r.chunked && max(r.length, 0) != theirs.ContentLength {
		t.Fatalf("length %d, net/http says %d", r.length, theirs.ContentLength)
	}
	if r.KeepAlive() == theirs.Close {
		t.Fatalf("keep-alive %v, net/http says close %v", r.KeepAlive(), theirs.Close)
	}
	b := r.Body()
	payload, _, err := drain(&b, string(rest), 1<<20)
	if err != nil {
		return // net/http may forgive what we refuse, or it is cut
	}
	want, err := io.ReadAll(theirs.Body)
	if err != nil {
		t.Fatalf("accepted a body that net/http refuses: %v", err)
	}
	if payload != string(want) {
		t.Fatalf("body %q, net/http says %q", payload, want)
	}
}

// FuzzResponseAgainstNetHTTP is the same for responses.
func FuzzResponseAgainstNetHTTP(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.0 404 Not Found\r\n\r\nuntil the end",
		"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, toHead bool) {
		var r Response
		n, err := r.Parse(in)
		if n == 0 || err != nil {
			return
		}
		method := http.MethodGet
		if toHead {
			method = http.MethodHead
		}
		theirs, err := http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(in), MaxHead), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("accepted what net/http refuses: %v", err)
		}
		if r.Status != theirs.StatusCode {
			t.Fatalf("status %d, net/http says %d", r.Status, theirs.StatusCode)
		}
		b := r.Body(toHead)
		payload, _, err := drain(&b, string(in[n:]), 1<<20)
		if err == nil {
			want, err := io.ReadAll(theirs.Body)
			if err != nil || payload != string(want) {
				t.Fatalf("body %q, net/http says %q, %v", payload, want, err)
			}
		}
		back := AppendResponse(nil, &r, &ResponseRewrite{Bodiless: toHead})
		var again Response
		if m, err := again.Parse(back); m != len(back) || err != nil || again.Status != r.Status || again.Body(toHead).state != r.Body(toHead).state {
			t.Fatalf("%q became %q: %v", in[:n], back, err)
		}
	})
}

// FuzzBody feeds chunked bodies in two ways of cutting: both must agree.
func FuzzBody(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\nA: b\r\n\r\n"), uint8(1))
	f.Add([]byte("0\r\n\r\nrest"), uint8(2))
	f.Add([]byte("1;a=\"\\\"\" ; b\r\nx\r\n0\r\nA: b\nC: d\r\n\r\n"), uint8(2))
	f.Add([]byte("ffffffffffffffff\r\n"), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		a, b := Body{state: chunkSize}, Body{state: chunkSize}
		whole, n, err := drain(&a, string(in), len(in)+1)
		cut, m, err2 := drain(&b, string(in), int(piece)+1)
		if whole != cut && err == nil || n != m && err == nil || (err == nil) != (err2 == nil) {
			t.Fatalf("whole: %q, %d, %v; in pieces: %q, %d, %v", whole, n, err, cut, m, err2)
		}
		if n > len(in) {
			t.Fatalf("consumed %d of %d bytes", n, len(in))
		}
	})
}
