package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestWhatAClientSpeaksIsToldByItsFirstBytes(t *testing.T) {
	for said, want := range map[string]struct {
		is   speech
		more bool
	}{
		"":                                     {silence, true},
		"GE":                                   {otherBytes, true},
		"GET ":                                 {otherBytes, true},
		"GET /a":                               {speaksHTTP1, true},
		"GET /a HTTP/1.1\r\n":                  {speaksHTTP1, false},
		"GET /a HTTP/1.1\r\nHost: b":           {speaksHTTP1, false},
		"CONNECT a:1 HTTP/1.1\n":               {speaksHTTP1, false},
		"OPTIONS * HTTP/1.0\r\n":               {speaksHTTP1, false},
		"GET http://a/ ":                       {speaksHTTP1, true},
		"GET key\r\n":                          {otherBytes, false}, // Redis
		"GET /key\r\n":                         {otherBytes, false},
		"EHLO mail.example\r\n":                {otherBytes, false}, // SMTP
		"CONNECT {\"verbose\":true}\r\n":       {otherBytes, false}, // NATS
		"get key\r\n":                          {otherBytes, false}, // memcached
		"*1\r\n$4\r\nPING\r\n":                 {otherBytes, false},
		"\x00\x00\x00\x08\x04\xd2\x16/":        {otherBytes, false}, // PostgreSQL asks for TLS
		"\x16\x03\x01":                         {helloTLS, false},
		"PRI * HT":                             {otherBytes, true},
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00": {speaksHTTP2, false},
		"PRI * HTTP/2.0\r\n\r\nXX":             {speaksHTTP1, false}, // and refused by its engine
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ":           {otherBytes, false},
		" GET / HTTP/1.1\r\n":                  {otherBytes, false},
	} {
		if is, more := tell([]byte(said)); is != want.is || more != want.more {
			t.Errorf("%q: %v, more %v; want %+v", said, is, more, want)
		}
	}
}

// FuzzTellingWhatAClientSpeaks: what is settled stays so, however the bytes are cut.
func FuzzTellingWhatAClientSpeaks(f *testing.F) {
	for _, s := range []string{"GET /a HTTP/1.1\r\n", string(preface), "\x16\x03\x01", "EHLO a\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		for n := range said {
			if is, more := tell(said[:n]); !more {
				if all, again := tell(said); all != is || again {
					t.Fatalf("%q is %v, and %q is %v", said[:n], is, said, all)
				}
				return
			}
		}
	})
}

// auto returns where a caller reaches a program whose port is auto, through both sidecars.
func (w *world) auto(program string) string {
	return w.outbound(route(mesh.Auto, w.instance("east", "orders-1", program, mesh.Auto)))
}

func TestAnAutoPortIsHTTPForWhoSpeaksIt(t *testing.T) {
	w := newWorld(t)
	addr := w.auto(w.program(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, r.Header.Get("X-Forwarded-Client-Cert"))
	})))
	resp, br, c := raw(t, addr, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Client-Cert: me\r\n\r\n", "GET")
	b, err := io.ReadAll(resp.Body)
	if want := "URI=" + w.caller.ID().String(); err != nil || !strings.HasSuffix(string(b), want) {
		t.Errorf("the program took the caller for %q, %v", b, err)
	}
	if _, err := io.WriteString(c, "nonsense\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 400 {
		t.Errorf("what is no request is answered with %v, %v", resp, err)
	}
}

func TestAnAutoPortIsBytesForWhoSpeaksAnythingElse(t *testing.T) {
	w := newWorld(t)
	addr := w.auto(fakes(t, func(c *net.TCPConn) {
		if _, err := io.Copy(c, c); err == nil {
			_ = c.CloseWrite()
		}
	}))
	for _, said := range []string{"GET key\r\n", "\x00\x01\x02", "P", "PRI * HTTP/2", strings.Repeat("A", 3000)} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != said {
			t.Errorf("%q came back as %q, %v", said, b, err)
		}
		_ = c.Close()
	}
}

func TestOnAnAutoPortTheServerMaySpeakFirst(t *testing.T) {
	w := newWorld(t)
	addr := w.auto(fakes(t, func(c *net.TCPConn) {
		fmt.Fprint(c, "220 ready\r\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		fmt.Fprint(c, "250 "+line)
	}))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	br := bufio.NewReader(c)
	if line, err := br.ReadString('\n'); line != "220 ready\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	fmt.Fprint(c, "EHLO me\n")
	if line, err := br.ReadString('\n'); line != "250 EHLO me\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestOnAnAutoPortTLSOfTheProgramsOwnPassesBy(t *testing.T) {
	w := newWorld(t)
	over := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(over.Close)
	addr := w.auto(over.Listener.Addr().String())
	conn, err := tls.Dial("tcp", addr, over.Client().Transport.(*http.Transport).TLSClientConfig.Clone())
	if err == nil {
		conn.Close()
	}
	if err != nil && !strings.Contains(err.Error(), "certificate is valid for") { // which it is, by its address
		t.Errorf("TLS: %v", err)
	}
}

func TestOnAnAutoPortHTTP2ReachesAProgramThatSpeaksIt(t *testing.T) {
	w := newWorld(t)
	plain := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "%s %s", r.Proto, r.Header.Get("X-Forwarded-Client-Cert"))
	}))
	plain.Config.Protocols = new(http.Protocols)
	plain.Config.Protocols.SetUnencryptedHTTP2(true)
	plain.Start()
	t.Cleanup(plain.Close)
	c := http2Client(t, plainTo(w.auto(plain.Listener.Addr().String())))
	code, got := get(t, c, "http://orders.shop.mesh/")
	if code != 200 || !strings.HasPrefix(got, "HTTP/2.0 By=") || !strings.HasSuffix(got, w.caller.ID().String()) {
		t.Errorf("%d %q", code, got)
	}
}

func TestTheBytesInAConnectStreamToAnAutoPortAreToldApartAgain(t *testing.T) {
	w := newWorld(t)
	ep := w.instance("east", "orders-1", w.program(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, r.Header.Get("X-Forwarded-Client-Cert"))
	})), mesh.Auto)
	s := opened(t, shared(t, ep.Address, ztunnelTLS(w.caller)), "orders.shop.mesh:80")
	fmt.Fprint(s, "GET /x HTTP/1.1\r\nHost: orders\r\nX-Forwarded-Client-Cert: me\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(s), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(b), "URI="+w.caller.ID().String()) {
		t.Errorf("the program took the caller for %q, %v", b, err)
	}
	s.Release()

	ep = w.instance("east", "orders-2", fakes(t, func(c *net.TCPConn) { fmt.Fprint(c, "220 ready\r\n"); _, _ = io.Copy(c, c); _ = c.CloseWrite() }), mesh.Auto)
	s = opened(t, shared(t, ep.Address, ztunnelTLS(w.caller)), "orders.shop.mesh:80")
	hello := make([]byte, 11)
	if _, err := io.ReadFull(s, hello); err != nil || string(hello) != "220 ready\r\n" {
		t.Errorf("%q, %v", hello, err)
	}
	fmt.Fprint(s, "EHLO")
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s); string(b) != "EHLO" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	s.Release()
}
