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

func TestTrailersOfARequestClaimNothing(t *testing.T) {
	for _, claim := range []string{"x-forwarded-client-cert: URI=spiffe://mesh.example/admin", "x_forwarded_client_cert: a", "x-isthmus-peer: a", "x-forwarded-for: 10.0.0.1", "x-real-ip: 10.0.0.1", "forwarded: for=10.0.0.1"} {
		overAll(t, func(t *testing.T, s *stage) {
			c := s.open()
			c.head(wireHead{first: "POST /", host: "a", fields: []string{"te: trailers", "trailer: x-sum"}}, false)
			c.data("x", false)
			p, _ := s.accept()
			c.trailers("x-sum: 1", claim)
			if _, fields, err := p.body(); err == nil || len(fields) > 0 {
				t.Errorf("%s: the program read trailers %q, %v", claim, fields, err)
			}
			s.is("status", s.heads(c).first, "400")
		})
	}
}

func TestTrailersOfAnAnswerMaySayWhatItsHeadMay(t *testing.T) {
	overAll(t, func(t *testing.T, s *stage) {
		c := s.open()
		c.head(wireHead{first: "GET /", host: "a", fields: []string{"te: trailers"}}, true)
		p, _ := s.accept()
		p.head(wireHead{first: "200", fields: []string{"trailer: x-request-id"}}, false)
		p.data("x", false)
		p.trailers("x-forwarded-for: 10.0.0.1", "x-request-id: 1")
		s.is("status", s.heads(c).first, "200")
		s.body(c, "x", "x-forwarded-for: 10.0.0.1", "x-request-id: 1")
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
	for _, up := range []bool{true, false} {
		overAll(t, func(t *testing.T, s *stage) { // a stage each: the program's connection is closed at the end
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
		})
	}
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
