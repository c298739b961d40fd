package http1

import (
	"strings"
	"testing"
	"time"
)

func onward(t *testing.T, s string, o RequestRewrite) string {
	t.Helper()
	r, _ := request(t, s)
	return string(AppendRequest(nil, r, &o))
}

func TestARequestGoesOnWithoutWhatIsForTheHopOnly(t *testing.T) {
	got := onward(t, "GET /a HTTP/1.1\r\nA: 1\r\nHost: h\r\nConnection: keep-alive, X-Mine, Content-Length\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\nTE: trailers\r\n"+
		"Proxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nContent-Length: 3\r\nUpgrade: foo\r\nB:2\r\n\r\n",
		RequestRewrite{RequestID: []byte("id-1"), Proto: "http"})
	want := "GET /a HTTP/1.1\r\nHost: h\r\nA: 1\r\nContent-Length: 3\r\nB:2\r\nx-request-id: id-1\r\nx-forwarded-proto: http\r\n\r\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestARequestKeepsItsIDAndForwardingOfTheInside(t *testing.T) {
	const in = "GET / HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Client-Cert: URI=spiffe://fake\r\nX-Isthmus-Anything: 1\r\n\r\n"
	got := onward(t, in, RequestRewrite{RequestID: []byte("other"), Proto: "http", ClientCert: "URI=spiffe://real"})
	want := "GET / HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nx-forwarded-client-cert: URI=spiffe://real\r\n\r\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got = onward(t, in, RequestRewrite{Proto: "http", Outside: true, ForwardedFor: "9.9.9.9"})
	want = "GET / HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\nx-forwarded-proto: http\r\nx-forwarded-for: 9.9.9.9\r\n\r\n"
	if got != want {
		t.Errorf("from outside: got\n%s\nwant\n%s", got, want)
	}
}

// CGI and WSGI programs see X_Real_Ip and X-Real-Ip as one HTTP_X_REAL_IP.
func TestAnIdentityClaimedWithUnderscoresIsDroppedToo(t *testing.T) {
	const in = "GET / HTTP/1.1\r\nHost: h\r\nX_Forwarded_Client_Cert: URI=spiffe://fake\r\nX-Forwarded_Client-Cert: URI=spiffe://fake\r\n" +
		"x_isthmus_anything: 1\r\nX_Forwarded_For: 1.2.3.4\r\nX_Forwarded_Proto: https\r\nX_Real_Ip: 1.2.3.4\r\nMy_Field: kept\r\n\r\n"
	got := onward(t, in, RequestRewrite{Outside: true, ClientCert: "URI=spiffe://real"})
	want := "GET / HTTP/1.1\r\nHost: h\r\nMy_Field: kept\r\nx-forwarded-client-cert: URI=spiffe://real\r\n\r\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTargetsGoOnInOriginForm(t *testing.T) {
	for in, want := range map[string]string{
		"GET http://A.b:81/x?y HTTP/1.1\r\nHost: ignored\r\n\r\n": "GET /x?y HTTP/1.1\r\nHost: A.b:81\r\n\r\n",
		"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n":                "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n":              "GET /?q HTTP/1.1\r\nHost: a\r\n\r\n",
		"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n":            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n":                                  "GET / HTTP/1.1\r\nHost: orders.shop.mesh\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n":                         "GET / HTTP/1.1\r\nHost: orders.shop.mesh\r\n\r\n",
	} {
		if got := onward(t, in, RequestRewrite{Host: "orders.shop.mesh"}); got != want {
			t.Errorf("%q goes on as %q, want %q", in, got, want)
		}
	}
}

func TestChunkedAndUpgradeAreSaidAnew(t *testing.T) {
	got := onward(t, "POST / HTTP/1.1\r\nHost: h\r\ntransfer-encoding: CHUNKED\r\nExpect: 100-continue\r\nTrailer: X-Sum\r\n\r\n", RequestRewrite{})
	if want := "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got = onward(t, "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n", RequestRewrite{})
	if want := "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nConnection: Upgrade\r\n\r\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// docker exec sends its options in the body of a POST that asks for "tcp".
func TestAnOfferToUpgradeGoesOnBehindABody(t *testing.T) {
	for in, want := range map[string]string{
		"POST /exec HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n":          "POST /exec HTTP/1.1\r\nHost: h\r\nUpgrade: tcp\r\nContent-Length: 2\r\nConnection: Upgrade\r\n\r\n",
		"POST /exec HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nTransfer-Encoding: chunked\r\n\r\n": "POST /exec HTTP/1.1\r\nHost: h\r\nUpgrade: tcp\r\nTransfer-Encoding: chunked\r\nConnection: Upgrade\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n":              "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n",
	} {
		if got := onward(t, in, RequestRewrite{}); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

func TestThatTrailersAreReadIsPassedOnAndNothingElseOfTE(t *testing.T) {
	for in, want := range map[string]string{
		"Connection: TE\r\nTE: trailers\r\n":                                "TE: trailers\r\nConnection: TE\r\n",
		"TE: gzip;q=0.5, , Trailers\r\nConnection: close, te\r\n":           "TE: trailers\r\nConnection: TE\r\n",
		"TE: gzip\r\nTE: trailers\r\nConnection: te\r\n":                    "TE: trailers\r\nConnection: TE\r\n",
		"TE: trailers\r\nConnection: TE, Upgrade\r\nUpgrade: websocket\r\n": "Upgrade: websocket\r\nTE: trailers\r\nConnection: TE, Upgrade\r\n",
		"TE: gzip, chunked\r\nConnection: TE\r\n":                           "",
		"TE: trailersx, xtrailers, trailers;q=1\r\nConnection: TE\r\n":      "",
		"TE: trailers\r\n":   "",
		"Connection: TE\r\n": "",
	} {
		if got := onward(t, "GET / HTTP/1.1\r\nHost: h\r\n"+in+"\r\n", RequestRewrite{}); got != "GET / HTTP/1.1\r\nHost: h\r\n"+want+"\r\n" {
			t.Errorf("%q goes on as %q", in, got)
		}
	}
	if got := onward(t, "GET / HTTP/1.0\r\nHost: h\r\nConnection: TE\r\nTE: trailers\r\n\r\n", RequestRewrite{}); strings.Contains(got, "TE") {
		t.Errorf("an HTTP/1.0 client, which gets no trailers, goes on as %q", got)
	}
}

func TestAnAnswerWithoutADateIsGivenOne(t *testing.T) {
	now := string(AppendDate(nil, time.Date(2026, 11, 26, 15, 0, 0, 0, time.FixedZone("", 3600))))
	if want := "Thu, 26 Nov 2026 14:00:00 GMT"; now != want {
		t.Fatalf("date %q, want %q", now, want)
	}
	for in, want := range map[string]string{
		"HTTP/1.1 204 No Content\r\n\r\n":                                     "HTTP/1.1 204 No Content\r\nDate: " + now + "\r\n\r\n",
		"HTTP/1.1 500 No\r\nConnection: Date\r\nContent-Length: 0\r\n\r\n":    "HTTP/1.1 500 No\r\nContent-Length: 0\r\nDate: " + now + "\r\n\r\n",
		"HTTP/1.1 200 OK\r\ndate: yesterday\r\nContent-Length: 0\r\n\r\n":     "HTTP/1.1 200 OK\r\ndate: yesterday\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n":                                       "HTTP/1.1 100 Continue\r\n\r\n",
		"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n": "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
	} {
		var r Response
		if _, err := r.Parse([]byte(in)); err != nil {
			t.Fatal(err)
		}
		if got := string(AppendResponse(nil, &r, &ResponseRewrite{Date: now})); got != want {
			t.Errorf("%q goes back as %q, want %q", in, got, want)
		}
	}
}

func TestAResponseGoesBack(t *testing.T) {
	for _, c := range []struct {
		name, in string
		back     ResponseRewrite
		want     string
	}{
		{"plain", "HTTP/1.1 200 Fine\r\nContent-Length: 1\r\nConnection: keep-alive\r\nKeep-Alive: x\r\n\r\n", ResponseRewrite{},
			"HTTP/1.1 200 Fine\r\nContent-Length: 1\r\n\r\n"},
		{"chunked", "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n", ResponseRewrite{},
			"HTTP/1.1 200 \r\nTrailer: A\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"chunked to an old client", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ResponseRewrite{HTTP10: true, Close: true},
			"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"},
		{"of known length to an old client", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", ResponseRewrite{HTTP10: true},
			"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n"},
		{"to HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n", ResponseRewrite{Bodiless: true},
			"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"},
		{"no content", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", ResponseRewrite{},
			"HTTP/1.1 204 No Content\r\n\r\n"},
		{"interim", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", ResponseRewrite{Close: true},
			"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"},
		{"switch", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", ResponseRewrite{Close: true},
			"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"},
		{"made by the mesh", "HTTP/1.1 503 Service Unavailable\r\nProxy-Status: a; error=x\r\nContent-Length: 0\r\n\r\n", ResponseRewrite{Via: "b"},
			"HTTP/1.1 503 Service Unavailable\r\nProxy-Status: a; error=x\r\nContent-Length: 0\r\nProxy-Status: b\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Response
			if _, err := r.Parse([]byte(c.in)); err != nil {
				t.Fatal(err)
			}
			if got := string(AppendResponse(nil, &r, &c.back)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestAnAnswerOfTheMeshIsWholeAndParses(t *testing.T) {
	b := AppendLocalReply(nil, &LocalReply{Status: 503, ProxyStatus: "isthmus-outbound; error=destination_unavailable", Text: "nobody is there\n", Close: true, Date: "Thu, 26 Nov 2026 14:00:00 GMT"})
	var r Response
	n, err := r.Parse(b)
	if err != nil || r.Status != 503 || r.KeepAlive() || !strings.Contains(string(r.ProxyStatus()), "destination_unavailable") {
		t.Fatalf("%s: %v", b, err)
	}
	if string(r.Value("cache-control")) != "no-store" || string(r.Value("date")) != "Thu, 26 Nov 2026 14:00:00 GMT" {
		t.Errorf("an answer that may be cached, or without a date: %s", b)
	}
	body := r.Body(false)
	if k, err := body.Scan(b[n:]); k != len("nobody is there\n") || err != nil || !body.Done() {
		t.Errorf("body of %d bytes, %v", k, err)
	}
}
