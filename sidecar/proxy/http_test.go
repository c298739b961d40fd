package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestARequestReachesTheProgramThroughBothSidecars(t *testing.T) {
	w := newWorld(t)
	var seen *http.Request
	ep := w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		seen = r.Clone(r.Context())
		fmt.Fprint(rw, "one")
	}))
	addr := w.outbound(route(mesh.HTTP, ep))
	c := httpClient(t)
	req, _ := http.NewRequest("GET", "http://"+addr+"/a?b=c", nil)
	req.Header.Set("X-Forwarded-Client-Cert", "URI=spiffe://mesh.example/fake")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || string(body) != "one" {
		t.Fatalf("%d %q", resp.StatusCode, body)
	}
	if seen.URL.String() != "/a?b=c" || seen.Host != addr {
		t.Errorf("the program saw %s for %s", seen.URL, seen.Host)
	}
	want := "By=spiffe://mesh.example/cluster/east/ns/shop/sa/orders;URI=spiffe://mesh.example/cluster/east/ns/shop/sa/web"
	if got := seen.Header["X-Forwarded-Client-Cert"]; len(got) != 1 || got[0] != want {
		t.Errorf("x-forwarded-client-cert is %q, want only %q", got, want)
	}
	if id := seen.Header.Get("X-Request-Id"); len(id) != 36 {
		t.Errorf("x-request-id is %q, want a UUID", id)
	}
	if p := seen.Header.Get("X-Forwarded-Proto"); p != "http" {
		t.Errorf("x-forwarded-proto is %q", p)
	}
}

func TestManyRequestsOnOneConnectionAndManyConnections(t *testing.T) {
	w := newWorld(t)
	h := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		rw.Header().Set("X-Method", r.Method)
		fmt.Fprintf(rw, "%s %s", r.URL.Path, b)
	})
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", h), w.web("east", "orders-2", h)))
	c := httpClient(t)
	errs := make(chan error)
	const workers, each = 8, 50
	for g := range workers {
		go func() {
			for i := range each {
				body := strings.Repeat("x", (g*each+i)*37%9000)
				resp, err := c.Post(fmt.Sprintf("http://%s/%d/%d", addr, g, i), "text/plain", strings.NewReader(body))
				if err != nil {
					errs <- err
					return
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if want := fmt.Sprintf("/%d/%d %s", g, i, body); err != nil || string(b) != want {
					errs <- fmt.Errorf("%d bytes, %v; want %d", len(b), err, len(want))
					return
				}
			}
			errs <- nil
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(rw, "%s=%s", r.URL.Path, b)
	}))))
	resp, br, _ := raw(t, addr, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"+
		"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"+
		"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n"+
		"GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET")
	for i, want := range []string{"/1=", "/2=abc", "/3=xyz", "/4="} {
		if i > 0 {
			var err error
			if resp, err = http.ReadResponse(br, nil); err != nil {
				t.Fatal(err)
			}
		}
		b, _ := io.ReadAll(resp.Body)
		if string(b) != want {
			t.Errorf("answer %d is %q, want %q", i+1, b, want)
		}
	}
	if !resp.Close {
		t.Error("the last answer does not say Connection: close")
	}
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("after Connection: close: %v, want EOF", err)
	}
}

func TestAnswersWithoutBodyKeepTheConnectionInStep(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			rw.WriteHeader(204)
		case "/304":
			rw.Header().Set("Etag", `"x"`)
			rw.WriteHeader(304)
		default:
			rw.Header().Set("Content-Length", "5")
			fmt.Fprint(rw, "hello")
		}
	}))))
	resp, br, c := raw(t, addr, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD")
	if resp.ContentLength != 5 {
		t.Errorf("HEAD says %d bytes, want 5", resp.ContentLength)
	}
	for _, path := range []string{"/204", "/304", "/"} {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
}

// A program that sends a body to HEAD, however late behind its head, must not have
// it taken for the answer to somebody's next request.
func TestABodyThatFollowsAnAnswerToHEADIsNotTheNextAnswer(t *testing.T) {
	w := newWorld(t)
	const forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	target := fakes(t, func(c *net.TCPConn) {
		owed := ""
		for br := bufio.NewReader(c); ; {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			fmt.Fprint(c, owed)
			if r.Method == http.MethodHead {
				owed = forged
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(forged))
			} else {
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal")
			}
		}
	})
	for name, ep := range map[string]mesh.Endpoint{
		"plain": plainAt("orders-1", target), "behind its sidecar": w.instance("east", "orders-1", target, mesh.HTTP),
	} {
		addr := w.outbound(route(mesh.HTTP, ep))
		c := httpClient(t)
		resp, err := c.Head("http://" + addr)
		if err != nil || resp.ContentLength != int64(len(forged)) {
			t.Fatalf("%s: %v, %v", name, resp, err)
		}
		resp.Body.Close()
		if code, b := get(t, c, "http://"+addr); code != 200 || b != "real" {
			t.Errorf("%s: the next request was answered with %d %q", name, code, b)
		}
	}
}

func TestInterimAnswersAndTrailersPass(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Link", "</style.css>")
		rw.WriteHeader(103)
		_, _ = io.Copy(io.Discard, r.Body)
		rw.Header().Set("Trailer", "X-Sum")
		fmt.Fprint(rw, "body")
		rw.Header().Set("X-Sum", r.Trailer.Get("X-Up"))
	}))))
	_, br, c := raw(t, addr, "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Up\r\nTransfer-Encoding: chunked\r\n\r\n", "POST")
	fmt.Fprint(c, "2\r\nup\r\n0\r\nX-Up: 42\r\n\r\n")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	if string(b) != "body" || resp.Trailer.Get("X-Sum") != "42" {
		t.Errorf("%q with trailer %v", b, resp.Trailer)
	}
}

func TestExpectContinueWaitsForLeave(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(rw, "no", http.StatusForbidden)
			return
		}
		b, _ := io.ReadAll(r.Body)
		_, _ = rw.Write(b)
	}))))
	resp, br, c := raw(t, addr, "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", "PUT")
	if resp.StatusCode != 100 {
		t.Fatalf("got %d before the body, want 100", resp.StatusCode)
	}
	fmt.Fprint(c, "data")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != "data" {
		t.Errorf("echo is %q", b)
	}
	resp, br, _ = raw(t, addr, "PUT /no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", "PUT")
	if resp.StatusCode != 403 || !resp.Close {
		t.Errorf("refused with %d, close %v; want 403 and close", resp.StatusCode, resp.Close)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("after the refusal: %v, want EOF", err)
	}
}

func TestAnOldClientGetsItsBodyWithoutChunks(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Host != dest.Host() {
			t.Errorf("host is %q, want the destination's", r.Host)
		}
		if r.URL.Path == "/length" {
			rw.Header().Set("Content-Length", "2")
			fmt.Fprint(rw, "ok")
			return
		}
		for i := range 3 {
			fmt.Fprintf(rw, "%d;", i)
			rw.(http.Flusher).Flush()
		}
	}))))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	b, err := io.ReadAll(c)
	if err != nil || !bytes.HasSuffix(b, []byte("\r\n\r\n0;1;2;")) || bytes.Contains(b, []byte("chunked")) {
		t.Errorf("%q, %v", b, err)
	}
	resp, br, c2 := raw(t, addr, "GET /length HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET")
	_, _ = io.ReadAll(resp.Body)
	if resp.Header.Get("Connection") != "keep-alive" {
		t.Errorf("Connection is %q", resp.Header.Get("Connection"))
	}
	fmt.Fprint(c2, "GET /length HTTP/1.0\r\n\r\n")
	if _, err := http.ReadResponse(br, nil); err != nil {
		t.Errorf("second request of an old client: %v", err)
	}
}

func TestGarbageAndAmbiguityAreRefusedAndNotForwarded(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil {
			t.Errorf("the program was given %s %s with %q", r.Method, r.URL, b)
		}
	}))))
	for request, want := range map[string]int{
		"\x00\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n":                                                400, // TLS: see mismatch_test.go
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n":                        400,
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab":                       400,
		"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 70<<10) + "\r\n\r\n":                   431,
		"GET /" + strings.Repeat("y", 40<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n":                          414,
		"GET / HTTP/3.0\r\n\r\n":                          505,
		"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n":     405,
		"GET / HTTP/1.1\nHost: a\n\n":                     400,
		"POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n": 417,
	} {
		resp, br, _ := raw(t, addr, request, "GET")
		if resp.StatusCode != want || !resp.Close || !strings.HasPrefix(resp.Header.Get("Proxy-Status"), "isthmus-outbound; error=http_request_error") {
			t.Errorf("%.60q: %d, close %v, Proxy-Status %q; want %d", request, resp.StatusCode, resp.Close, resp.Header.Get("Proxy-Status"), want)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if _, err := br.ReadByte(); err != io.EOF {
			t.Errorf("%.60q: after the refusal: %v, want EOF", request, err)
		}
	}
}

func TestALargeHeadPassesUpToItsBound(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Big", r.Header.Get("X-Big"))
	}))))
	big := strings.Repeat("y", 60<<10)
	req, _ := http.NewRequest("GET", "http://"+addr, nil)
	req.Header.Set("X-Big", big)
	resp, err := httpClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("X-Big") != big {
		t.Errorf("%d: %d bytes came back", resp.StatusCode, len(resp.Header.Get("X-Big")))
	}
}

// What the first sidecar takes the second takes too, in both directions.
func TestAHeadIsRefusedAtTheFirstHopOrNowhere(t *testing.T) {
	w := newWorld(t)
	var seen atomic.Int32
	addr := w.outbound(route(mesh.HTTP, w.instance("east", "orders-1", fakes(t, func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			seen.Add(1)
			n, _ := strconv.Atoi(r.URL.Query().Get("fields"))
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nProxy-Status: program\r\nContent-Length: 0\r\n%s\r\n", strings.Repeat("A: b\r\n", n))
		}
	}), mesh.HTTP)))
	passed := false
	for fields := 100; fields > 90; fields-- {
		before := seen.Load()
		resp, _, _ := raw(t, addr, "GET / HTTP/1.1\r\nHost: a\r\n"+strings.Repeat("A: b\r\n", fields-1)+"\r\n", "GET")
		status := resp.Header.Get("Proxy-Status")
		switch {
		case resp.StatusCode == 200:
			passed = true
		case resp.StatusCode != 431 || seen.Load() != before || !strings.HasPrefix(status, "isthmus-outbound; error=http_request_error") || passed:
			t.Errorf("%d fields: %d, %q; want 200, or 431 by the first hop", fields, resp.StatusCode, status)
		}
	}
	for size := 66000; size > 64000 && !t.Failed(); size -= 61 {
		const start = "GET / HTTP/1.1\r\nHost: a\r\nA: "
		resp, _, _ := raw(t, addr, start+strings.Repeat("b", size-len(start)-4)+"\r\n\r\n", "GET")
		if status := resp.Header.Get("Proxy-Status"); resp.StatusCode != 200 && !strings.HasPrefix(status, "isthmus-outbound; error=http_request_error") {
			t.Errorf("%d bytes: %d, %q; want 200, or 431 by the first hop", size, resp.StatusCode, status)
		}
	}
	for fields := 85; fields < 100; fields++ {
		resp, _, _ := raw(t, addr, fmt.Sprintf("POST /?fields=%d HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", fields), "POST")
		if s := resp.Header.Values("Proxy-Status"); resp.StatusCode != 200 && !strings.HasPrefix(s[0], "isthmus-inbound; error=http_protocol_error") {
			t.Errorf("an answer of %d fields: %d, %q; want 200, or 502 by the program's sidecar", fields+2, resp.StatusCode, s)
		}
	}
}

func TestEveryFinalAnswerHasADate(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, plainAt("a", fakes(t, func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}))))
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"} {
		resp, _, _ := raw(t, addr, request, "GET")
		if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
			t.Errorf("%d with Date %q", resp.StatusCode, resp.Header.Get("Date"))
		}
	}
}

func TestABadAnswerBecomes502(t *testing.T) {
	w := newWorld(t)
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
		"SSH-2.0-OpenSSH_9.2\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"HTTP/1.1 200 OK\r\nContent-Le",
	} {
		plain := fake(t, func(_ int, c *net.TCPConn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.WriteString(c, answer)
			}
		})
		addr := w.outbound(route(mesh.HTTP, mesh.Endpoint{Instance: "a", Address: plain, Ready: true, Weight: 1}))
		if code, body := get(t, httpClient(t), "http://"+addr); code != 502 {
			t.Errorf("%q became %d %q, want 502", answer, code, body)
		}
	}
}

func TestAnAnswerThatBreaksOffIsNotMadeToLookWhole(t *testing.T) {
	w := newWorld(t)
	for name, head := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
		"reset":   "HTTP/1.1 200 OK\r\n\r\npart",
	} {
		plain := fake(t, func(_ int, c *net.TCPConn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
				return
			}
			_, _ = io.WriteString(c, head)
			if name == "reset" {
				// Let it be read before the reset overtakes it.
				_, _ = c.Read(make([]byte, 1))
				_ = c.SetLinger(0)
			}
		})
		addr := w.outbound(route(mesh.HTTP, mesh.Endpoint{Instance: "a", Address: plain, Ready: true, Weight: 1}))
		req := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"
		resp, _, c := raw(t, addr, req, "POST")
		fmt.Fprint(c, "x")
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: %q looks whole", name, b)
		}
	}
}

func TestAnAnswerUntilCloseArrivesWhole(t *testing.T) {
	w := newWorld(t)
	body := strings.Repeat("0123456789", 20000)
	plain := fake(t, func(_ int, c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n"+body)
		}
	})
	addr := w.outbound(route(mesh.HTTP, mesh.Endpoint{Instance: "a", Address: plain, Ready: true, Weight: 1}))
	resp, err := httpClient(t).Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != body {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
