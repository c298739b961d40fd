package proxy

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The conformance suite: every case runs over each combination of HTTP/1.1 and HTTP/2 at the
// client's end and at the program's, through one sidecar and through two.

// combination is what is spoken at either end.
type combination struct {
	client, program int // major version
	sidecars        int
}

func (c combination) String() string {
	return fmt.Sprintf("h%d to h%d by %d", c.client, c.program, c.sidecars)
}

// overAll runs fn over every combination.
func overAll(t *testing.T, fn func(t *testing.T, s *stage)) {
	for _, sidecars := range []int{1, 2} {
		for _, program := range []int{1, 2} {
			for _, client := range []int{1, 2} {
				c := combination{client, program, sidecars}
				t.Run(c.String(), func(t *testing.T) { fn(t, newStage(t, c)) })
			}
		}
	}
}

// stage is one combination, ready for exchanges.
type stage struct {
	combination
	t    *testing.T
	addr string // the client's sidecar
	l    net.Listener
}

func newStage(t *testing.T, c combination) *stage {
	s := &stage{combination: c, t: t, l: listen(t)}
	protocol := mesh.HTTP
	if c.program == 2 {
		protocol = mesh.HTTP2
	}
	w := newWorld(t)
	if c.sidecars == 1 {
		s.addr = w.outbound(route(protocol, plainAt("a", s.l.Addr().String())))
	} else {
		s.addr = w.outbound(route(protocol, w.instance("east", "a", s.l.Addr().String(), protocol)))
	}
	return s
}

// open returns a client's end.
func (s *stage) open() wireEnd {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	if s.client == 1 {
		return newH1(s.t, c, true)
	}
	return newH2(s.t, c, true)
}

// accept returns the program's end of the next connection, and the head that it reads.
func (s *stage) accept() (wireEnd, wireHead) {
	s.t.Helper()
	_ = s.l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	for {
		c, err := s.l.Accept()
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = c.Close() })
		var e wireEnd
		if s.program == 1 {
			e = newH1(s.t, c, false)
		} else {
			preface := make([]byte, 24)
			if _, err := io.ReadFull(c, preface); err != nil {
				continue // a dial that was not needed
			}
			e = newH2(s.t, c, false)
		}
		h, err := e.heads()
		if err != nil {
			continue
		}
		return e, h
	}
}

func (s *stage) heads(e wireEnd) wireHead {
	s.t.Helper()
	h, err := e.heads()
	if err != nil {
		s.t.Fatalf("no head: %v", err)
	}
	return h
}

// body reads a whole body and checks it with its trailers.
func (s *stage) body(e wireEnd, want string, trailers ...string) {
	s.t.Helper()
	got, fields, err := e.body()
	if err != nil || got != want || !slices.Equal(fields, trailers) {
		s.t.Errorf("body of %d bytes (%.20q), trailers %q, %v; want %d (%.20q), %q", len(got), got, fields, err, len(want), want, trailers)
	}
}

func (s *stage) is(what, got, want string) {
	s.t.Helper()
	if got != want {
		s.t.Errorf("%s is %q, want %q", what, got, want)
	}
}

func TestARequestWithoutABodyAndItsAnswer(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "GET /a/b?c=d", host: "orders.shop.mesh:81", fields: []string{"x-one: 1", "x-one: 2", "te: trailers", "x-isthmus-fake: 1"}}, true)
		p, h := s.accept()
		s.is("request", h.first, "GET /a/b?c=d")
		s.is("host", h.host, "orders.shop.mesh:81")
		s.is("te", h.has("te"), "trailers")
		s.is("claimed identity", h.has("x-isthmus-fake"), "")
		s.is("scheme", h.has("x-forwarded-proto"), "http")
		if n := strings.Count(strings.Join(h.fields, "\n"), "x-one: "); n != 2 {
			t.Errorf("%d of 2 fields", n)
		}
		if h.has("x-request-id") == "" {
			t.Error("no request id")
		}
		s.body(p, "")
		p.head(wireHead{first: "200", fields: []string{"content-length: 5", "x-two: 2"}}, false)
		p.data("hello", true)
		h = s.heads(c)
		s.is("status", h.first, "200")
		s.is("field", h.has("x-two"), "2")
		s.is("length", h.has("content-length"), "5")
		s.body(c, "hello")
	})
}

func TestBodiesOfKnownLength(t *testing.T) {
	for _, size := range []int{1, 4090, 70_000, 1 << 20} {
		overAll(t, func(t *testing.T, s *stage) {
			body := strings.Repeat("0123456789abcdef", size/16+1)[:size]
			length := fmt.Sprintf("content-length: %d", size)
			c := s.open()
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.head(wireHead{first: "POST /", host: "a", fields: []string{length}}, false)
				c.data(body, true)
			}()
			p, h := s.accept()
			s.is("length", "content-length: "+h.has("content-length"), length)
			s.body(p, body)
			<-done
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				p.head(wireHead{first: "200", fields: []string{length}}, false)
				p.data(body, true)
			}()
			h = s.heads(c)
			s.is("length", "content-length: "+h.has("content-length"), length)
			s.body(c, body)
			<-answered
		})
	}
}

func TestBodiesOfUnknownLengthWithTrailers(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		body := strings.Repeat("0123456789abcdef", 10_000)
		c := s.open()
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.head(wireHead{first: "POST /", host: "a", fields: []string{"te: trailers", "trailer: x-sum"}}, false)
			c.data("x", false)
			c.data(body, false)
			c.trailers("x-sum: 1")
		}()
		p, h := s.accept()
		s.is("length", h.has("content-length"), "")
		s.body(p, "x"+body, "x-sum: 1")
		<-done
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			p.head(wireHead{first: "200", fields: []string{"trailer: x-total"}}, false)
			p.data(body, false)
			p.trailers("x-more: a", "x-total: 2")
		}()
		s.is("status", s.heads(c).first, "200")
		s.body(c, body, "x-more: a", "x-total: 2")
		<-answered
	})
}

func TestAnswersWithoutABody(t *testing.T) {
	for _, answer := range []struct{ method, status, length string }{
		{"HEAD", "200", "4711"}, {"GET", "204", ""}, {"GET", "304", "12"}, {"POST", "200", "0"},
	} {
		overAll(t, func(t *testing.T, s *stage) {
			c := s.open()
			c.head(wireHead{first: answer.method + " /", host: "a"}, true)
			p, _ := s.accept()
			h := wireHead{first: answer.status}
			if answer.length != "" {
				h.fields = []string{"content-length: " + answer.length}
			}
			p.head(h, true)
			got := s.heads(c)
			s.is("status", got.first, answer.status)
			if answer.status != "304" || s.client == 2 { // net/http hides it
				s.is("length", got.has("content-length"), answer.length)
			}
			s.body(c, "")
		})
	}
}

func TestInterimAnswersAndLeaveToSend(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "POST /", host: "a", fields: []string{"expect: 100-continue", "content-length: 4"}}, false)
		p, h := s.accept()
		s.is("expect", h.has("expect"), "100-continue")
		p.head(wireHead{first: "103", fields: []string{"link: </a>; rel=preload"}}, false)
		got := s.heads(c)
		s.is("interim", got.first+" "+got.has("link"), "103 </a>; rel=preload")
		p.head(wireHead{first: "100"}, false)
		s.is("interim", s.heads(c).first, "100")
		c.data("body", true)
		s.body(p, "body")
		p.head(wireHead{first: "200"}, true)
		s.is("status", s.heads(c).first, "200")
		s.body(c, "")
	})
}

func TestCookiesOfHTTP2AreOneField(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		fields := []string{"cookie: a=1", "cookie: b=2"}
		if s.client == 1 {
			fields = []string{"cookie: a=1; b=2"}
		}
		c.head(wireHead{first: "GET /", host: "a", fields: fields}, true)
		p, h := s.accept()
		s.is("cookie", h.has("cookie"), "a=1; b=2")
		p.head(wireHead{first: "200", fields: []string{"set-cookie: a=1", "set-cookie: b=2"}}, true)
		if got := s.heads(c); strings.Count(strings.Join(got.fields, "\n"), "set-cookie") != 2 {
			t.Errorf("answer has %q", got.fields)
		}
	})
}

func TestAnEarlyAnswerReachesAClientThatIsStillSending(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "POST /", host: "a"}, false)
		c.data("some", false)
		p, _ := s.accept()
		early := []string{"content-length: 4"}
		if s.program == 1 {
			early = append(early, "connection: close") // it reads no more
		}
		p.head(wireHead{first: "413", fields: early}, false)
		p.data("much", true)
		if e, ok := p.(*h2End); ok {
			_ = e.f.WriteRSTStream(e.stream, 0)
		} else {
			_ = p.socket().CloseWrite()
		}
		s.is("status", s.heads(c).first, "413")
		s.body(c, "much")
		if e, ok := c.(*h2End); ok {
			if err := c.cancelled(); err != nil || e.reset == nil || *e.reset != 0 {
				t.Errorf("reset %v, %v; want NO_ERROR", e.reset, err)
			}
		}
	})
}

func TestAProgramHearsAtOnceOfAClientThatLeft(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "GET /", host: "a"}, true)
		p, _ := s.accept()
		c.cancel()
		if err := p.cancelled(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnAnswerThatBreaksOffIsAnErrorForTheClient(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "GET /", host: "a"}, true)
		p, _ := s.accept()
		p.head(wireHead{first: "200"}, false)
		p.data("half", false)
		s.is("status", s.heads(c).first, "200")
		got, _ := c.some()
		s.is("part", got, "half")
		p.cancel()
		if _, _, err := c.body(); err == nil {
			t.Error("the answer looks whole")
		}
	})
}

func TestBothDirectionsAtOnceForAsLongAsWanted(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "POST /chat", host: "a"}, false)
		c.data("hello", false)
		p, _ := s.accept()
		if got, err := p.some(); got != "hello" {
			t.Fatal(got, err)
		}
		p.head(wireHead{first: "200"}, false)
		s.is("status", s.heads(c).first, "200")
		for i := range 50 {
			word := strings.Repeat("w", 1+i*100)
			p.data(word, false)
			for got := ""; got != word; {
				b, err := c.some()
				if got += b; err != nil {
					t.Fatalf("answer %d: %d bytes, %v", i, len(got), err)
				}
			}
			c.data(word, false)
			for got := ""; got != word; {
				b, err := p.some()
				if got += b; err != nil {
					t.Fatalf("request %d: %d bytes, %v", i, len(got), err)
				}
			}
		}
		c.data("", true)
		s.body(p, "")
		p.trailers("x-end: 1")
		s.body(c, "", "x-end: 1")
	})
}

func TestWebSocketsPassWhateverIsSpoken(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "GET /ws", host: "a", fields: []string{
			"upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
		}}, false)
		p, h := s.accept()
		method := "GET /ws"
		if s.program == 2 {
			method = "CONNECT /ws"
		}
		s.is("request", h.first, method)
		s.is("upgrade", h.has("upgrade"), "websocket")
		s.is("version", h.has("sec-websocket-version"), "13")
		if key := h.has("sec-websocket-key"); (key != "") != (s.program == 1) {
			t.Errorf("key %q", key)
		}
		p.head(wireHead{first: "101", fields: []string{"upgrade: websocket", "connection: upgrade", "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}}, false)
		h = s.heads(c)
		if s.client == 1 {
			s.is("answer", h.first+" "+h.has("sec-websocket-accept"), "101 s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
		} else {
			s.is("answer", h.first+" "+h.has("sec-websocket-accept"), "200 ")
		}
		rawC, rawP := tunnel(c), tunnel(p)
		for _, word := range []string{"a", strings.Repeat("b", 30_000), "c"} {
			rawC.send(word)
			s.is("to the program", rawP.receive(len(word)), word)
			rawP.send(word)
			s.is("to the client", rawC.receive(len(word)), word)
		}
		c.cancel()
		if err := p.cancelled(); err != nil {
			t.Error(err)
		}
	})
}

func TestAWebSocketThatIsRefusedIsAnAnswer(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "GET /ws", host: "a", fields: []string{
			"upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
		}}, false)
		p, _ := s.accept()
		p.head(wireHead{first: "403", fields: []string{"content-length: 2"}}, false)
		p.data("no", true)
		s.is("status", s.heads(c).first, "403")
		s.body(c, "no")
	})
}

// wireTunnel is what an upgraded end has become.
type wireTunnel struct{ e wireEnd }

func tunnel(e wireEnd) wireTunnel { return wireTunnel{e} }

func (w wireTunnel) send(b string) {
	if e, ok := w.e.(*h1End); ok {
		_, _ = e.c.Write([]byte(b))
		return
	}
	w.e.data(b, false)
}

func (w wireTunnel) receive(n int) string {
	var got strings.Builder
	for got.Len() < n {
		if e, ok := w.e.(*h1End); ok {
			b := make([]byte, n-got.Len())
			k, err := e.r.Read(b)
			got.Write(b[:k])
			if err != nil {
				break
			}
			continue
		}
		b, err := w.e.some()
		got.WriteString(b)
		if err != nil {
			break
		}
	}
	return got.String()
}

func TestConnectIsRefused(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		if e, ok := c.(*h2End); ok {
			e.headers([][2]string{{":method", "CONNECT"}, {":authority", "a:80"}}, nil, false)
		} else {
			e := c.(*h1End)
			e.method = "CONNECT"
			_, _ = e.c.Write([]byte("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"))
		}
		s.is("status", s.heads(c).first, "405")
	})
}

func TestAClientOfHTTP10GetsThePayloadAlone(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		if s.client == 2 {
			t.Skip("HTTP/2 is no HTTP/1.0")
		}
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, "GET /old HTTP/1.0\r\n\r\n")
		p, h := s.accept()
		s.is("request", h.first+" "+h.host, "GET /old orders.shop.mesh")
		p.head(wireHead{first: "200"}, false)
		p.data("one", false)
		p.data("two", true)
		got, err := io.ReadAll(c)
		if err != nil || !strings.HasSuffix(string(got), "\r\n\r\nonetwo") {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// A sender is stopped by a reader who takes nothing, with little between them.
func TestASlowReaderStopsTheSender(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		for _, up := range []bool{true, false} {
			c := s.open()
			c.head(wireHead{first: "POST /", host: "a"}, false)
			c.data("x", false)
			p, _ := s.accept()
			p.head(wireHead{first: "200"}, false)
			p.data("x", false)
			s.heads(c)
			from, to := p, c
			if up {
				from, to = c, p
			}
			if _, err := to.some(); err != nil {
				t.Fatal(err)
			}
			if e, ok := to.(*h2End); ok {
				e.hold = true
			}
			_ = from.socket().SetDeadline(time.Now().Add(300 * time.Millisecond))
			const most = 48 << 20 // kernels between take some MiB each
			sent := 0
			part := strings.Repeat("y", 256<<10)
			for ; sent < most; sent += len(part) {
				if !s.sends(from, part) {
					break
				}
			}
			if sent >= most {
				t.Errorf("up %v: %d MiB were taken, and nobody reads", up, sent>>20)
			}
			c.cancel()
			_ = p.socket().Close()
			_ = c.socket().Close()
		}
	})
}

// sends reports whether e could send all of b before its deadline.
func (s *stage) sends(e wireEnd, b string) bool {
	if h1, ok := e.(*h1End); ok {
		_, err := fmt.Fprintf(h1.c, "%x\r\n%s\r\n", len(b), b)
		return err == nil
	}
	h2 := e.(*h2End)
	h2.data(b, false)
	_, err := h2.c.Write(nil)
	return err == nil && h2.window(h2.stream) > 0
}

func TestAHeadThatIsTooLargeIsRefused(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "GET /", host: "a", fields: []string{"x-large: " + strings.Repeat("x", 66<<10)}}, true)
		s.is("status", s.heads(c).first, "431")
		c = s.open()
		var many []string
		for i := range 101 {
			many = append(many, fmt.Sprintf("x-%d: 1", i))
		}
		c.head(wireHead{first: "GET /", host: "a", fields: many}, true)
		s.is("status", s.heads(c).first, "431")
	})
}

// Every class of an HTTP/2 head that an HTTP/1.1 hop could read as something else: none
// reaches the program.
func TestNoDowngradeAttackReachesAProgram(t *testing.T) {
	get := [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}}
	with := func(name, value string) (pseudo [][2]string) {
		for _, p := range get {
			if p[0] == name {
				p[1] = value
			}
			pseudo = append(pseudo, p)
		}
		return pseudo
	}
	attacks := map[string]struct {
		pseudo [][2]string
		fields []string
		end    bool
		body   string
	}{
		"transfer-encoding":                 {get, []string{"transfer-encoding: chunked"}, false, "0\r\n\r\nGET /evil HTTP/1.1\r\nhost: a\r\n\r\n"},
		"transfer-encoding in other case":   {get, []string{"Transfer-Encoding: chunked"}, false, "0\r\n\r\n"},
		"content-length below the body":     {with(":method", "POST"), []string{"content-length: 1"}, false, "xGET /evil HTTP/1.1\r\n\r\n"},
		"content-length above the body":     {with(":method", "POST"), []string{"content-length: 99"}, false, "x"},
		"two content-lengths":               {with(":method", "POST"), []string{"content-length: 1", "content-length: 2"}, false, "x"},
		"content-length that is no number":  {with(":method", "POST"), []string{"content-length: +1"}, false, "x"},
		"content-length without a body":     {with(":method", "POST"), []string{"content-length: 5"}, true, ""},
		"CRLF in a value":                   {get, []string{"x: a\r\nevil: 1"}, true, ""},
		"LF in a value":                     {get, []string{"x: a\nevil: 1"}, true, ""},
		"NUL in a value":                    {get, []string{"x: a\x00b"}, true, ""},
		"CRLF in a name":                    {get, []string{"x\r\nevil: 1"}, true, ""},
		"colon in a name":                   {get, []string{"x:evil: 1"}, true, ""},
		"space in a name":                   {get, []string{"x evil: 1"}, true, ""},
		"upper case in a name":              {get, []string{"X-Evil: 1"}, true, ""},
		"empty name":                        {get, []string{": 1"}, true, ""},
		"connection":                        {get, []string{"connection: x-one"}, true, ""},
		"keep-alive":                        {get, []string{"keep-alive: 1"}, true, ""},
		"proxy-connection":                  {get, []string{"proxy-connection: close"}, true, ""},
		"upgrade":                           {get, []string{"upgrade: websocket"}, true, ""},
		"te other than trailers":            {get, []string{"te: gzip"}, true, ""},
		"space in the path":                 {with(":path", "/ HTTP/1.1\r\nevil: 1"), nil, true, ""},
		"path with a space":                 {with(":path", "/a b"), nil, true, ""},
		"path that is absolute":             {with(":path", "http://evil/"), nil, true, ""},
		"path that is empty":                {with(":path", ""), nil, true, ""},
		"asterisk of another method":        {with(":path", "*"), nil, true, ""},
		"space in the method":               {with(":method", "GET / HTTP/1.1"), nil, true, ""},
		"CRLF in the method":                {with(":method", "GET\r\n"), nil, true, ""},
		"authority with userinfo":           {with(":authority", "evil@a"), nil, true, ""},
		"CRLF in the authority":             {with(":authority", "a\r\nevil: 1"), nil, true, ""},
		"space in the authority":            {with(":authority", "a b"), nil, true, ""},
		"another host beside the authority": {get, []string{"host: evil"}, true, ""},
		"two hosts":                         {get, []string{"host: a", "host: a"}, true, ""},
		"no authority and no host":          {get[:1:1], nil, true, ""},
		"duplicate pseudo-header":           {append(with("", ""), [2]string{":path", "/evil"}), nil, true, ""},
		"unknown pseudo-header":             {append(with("", ""), [2]string{":evil", "1"}), nil, true, ""},
		"status in a request":               {append(with("", ""), [2]string{":status", "200"}), nil, true, ""},
		"scheme that is none":               {with(":scheme", "ht tp"), nil, true, ""},
		"protocol without CONNECT":          {append(with("", ""), [2]string{":protocol", "websocket"}), nil, true, ""},
	}
	for _, program := range []int{1, 2} {
		s := newStage(t, combination{client: 2, program: program, sidecars: 1})
		reached := make(chan string, 100)
		go func() {
			for {
				c, err := s.l.Accept()
				if err != nil {
					return
				}
				go func() {
					b, _ := io.ReadAll(c)
					if _, frames, _ := strings.Cut(string(b), "SM\r\n\r\n"); program == 1 || strings.Contains(frames, "evil") {
						reached <- string(b)
					}
				}()
			}
		}()
		for name, a := range attacks {
			t.Run(fmt.Sprintf("h%d/%s", program, name), func(t *testing.T) {
				c := s.open().(*h2End)
				c.headers(a.pseudo, a.fields, a.end)
				if !a.end {
					_ = c.f.WriteData(1, true, []byte(a.body))
				}
				h, err := c.heads()
				if err == nil && h.first[0] != '4' && h.first != "501" && h.first != "505" {
					t.Errorf("answered %s", h.first)
				}
				_ = c.c.Close()
				select {
				case b := <-reached:
					// A body that breaks off reaches a program as a request that breaks off.
					if !strings.Contains(name, "the body") || strings.Contains(b, "evil") {
						t.Errorf("the program read %q", b)
					}
				case <-time.After(10 * time.Millisecond):
				}
			})
		}
	}
}
