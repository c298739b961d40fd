package proxy

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// pattern gives n bytes that repeat with no power of two.
type pattern struct{ left, at int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), p.left)], patternBytes[p.at%251:])
	p.left -= int64(n)
	p.at += int64(n)
	return n, nil
}

var patternBytes = func() []byte {
	b := make([]byte, 251*512)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}()

const large = 200 << 20

func TestLargeBodiesPassBothWaysAtOnce(t *testing.T) {
	n := int64(large)
	if testing.Short() || underRace {
		n = 32 << 20 // the detector makes every byte's way ten times as long
	}
	w := newWorld(t)
	echo := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(rw).EnableFullDuplex()
		if r.ContentLength > 0 {
			rw.Header().Set("Content-Length", fmt.Sprint(r.ContentLength))
		}
		if _, err := io.Copy(rw, r.Body); err != nil {
			t.Errorf("echo: %v", err)
		}
	})
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", echo)))
	for _, length := range []int64{n, -1} { // of known length, and chunked
		if length < 0 {
			n /= 8
		}
		req, _ := http.NewRequest("POST", "http://"+addr, &pattern{left: n})
		req.ContentLength = length
		resp, err := httpClient(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, want := sha256.New(), sha256.New()
		m, err := io.Copy(got, resp.Body)
		resp.Body.Close()
		_, _ = io.Copy(want, &pattern{left: n})
		if m != n || err != nil || string(got.Sum(nil)) != string(want.Sum(nil)) {
			t.Fatalf("length %d: %d bytes of %d came back, %v", length, m, n, err)
		}
	}
}

func TestAnEarlyAnswerIsSeenDuringAnUpload(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Error(rw, "too large", http.StatusRequestEntityTooLarge) // reads nothing of the body
	}))))
	// A client that sends all before it reads: without care on our side, both
	// would wait for each other.
	resp, _, c := raw(t, addr, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n", "POST")
	if resp.StatusCode != 413 {
		t.Fatalf("%d before the body, want 413", resp.StatusCode)
	}
	if _, err := io.Copy(c, &pattern{left: 100 << 20}); err == nil {
		t.Log("all of the body was taken") // allowed, and not expected
	}

	resp2, err := httpClient(t).Post("http://"+addr, "a/b", &pattern{left: 100 << 20})
	if err != nil {
		t.Fatalf("the answer was lost: %v", err)
	}
	defer resp2.Body.Close()
	if resp2.StatusCode != 413 {
		t.Errorf("%d, want 413", resp2.StatusCode)
	}
}

func TestBackpressureReachesTheSender(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		<-release
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(rw, n)
	}))))
	body := &pattern{left: 64 << 20}
	var resp *http.Response
	var err error
	done := make(chan struct{})
	pr, pw := io.Pipe()
	go func() {
		defer close(done)
		resp, err = httpClient(t).Post("http://"+addr, "a/b", pr)
	}()
	// The sender gets stuck far before its end: each write has 300 ms.
	sent, stuck := 0, false
	buf := make([]byte, 256<<10)
	writes := make(chan int)
	go func() {
		defer close(writes)
		for {
			n, rerr := body.Read(buf)
			if rerr != nil {
				_ = pw.Close()
				return
			}
			if _, werr := pw.Write(buf[:n]); werr != nil {
				return
			}
			writes <- n
		}
	}()
	for !stuck {
		select {
		case n, ok := <-writes:
			if sent += n; !ok {
				t.Fatal("64 MiB went nowhere: something buffers without bound")
			}
		case <-time.After(300 * time.Millisecond):
			stuck = true
		}
	}
	close(release)
	for n := range writes {
		sent += n
	}
	<-done
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != fmt.Sprint(64<<20) || sent != 64<<20 {
		t.Errorf("the program read %s bytes of %d", b, sent)
	}
}

func TestAClientThatLeavesEndsTheRequestAtTheProgram(t *testing.T) {
	w := newWorld(t)
	entered, left := make(chan struct{}), make(chan struct{})
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = rw.Write([]byte("begun"))
		rw.(http.Flusher).Flush()
		close(entered)
		// Write until nobody is there: the end travels back by a failing write.
		for r.Context().Err() == nil {
			if _, err := rw.Write(make([]byte, 64<<10)); err != nil {
				break
			}
		}
		close(left)
	}))))
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addr, nil)
	resp, err := httpClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	cancel()
	resp.Body.Close()
	<-left
}

func TestAClientThatLeavesAfterItsUploadEndsTheRequestAtTheProgram(t *testing.T) {
	w := newWorld(t)
	read, left := make(chan struct{}), make(chan struct{})
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(read)
		<-r.Context().Done()
		close(left)
	}))))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, _ := http.NewRequestWithContext(ctx, "POST", "http://"+addr, &pattern{left: 1 << 20})
		if resp, err := httpClient(t).Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	<-read
	cancel()
	<-left
	<-done
}

func TestAnAbandonedUploadEndsTheRequestAtTheProgram(t *testing.T) {
	w := newWorld(t)
	left := make(chan error, 1)
	entered := make(chan struct{})
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		close(entered)
		_, err := io.Copy(io.Discard, r.Body)
		left <- err
	}))))
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := httpClient(t).Post("http://"+addr, "a/b", pr); err == nil {
			resp.Body.Close()
		}
	}()
	_, _ = pw.Write([]byte("some"))
	<-entered
	_ = pw.CloseWithError(errors.New("changed my mind"))
	if err := <-left; err == nil {
		t.Error("half a body looked whole to the program")
	}
	<-done
}

func TestAWebSocketPasses(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(rw, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(2 << 20)
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if c.Write(r.Context(), kind, b) != nil {
				return
			}
		}
	}))))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(2 << 20)
	for _, n := range []int{0, 1, 1000, 1 << 20} {
		msg := strings.Repeat("w", n)
		if err := c.Write(ctx, websocket.MessageText, []byte(msg)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(ctx); err != nil || string(b) != msg {
			t.Fatalf("%d bytes: %d came back, %v", n, len(b), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestAnyUpgradePassesWithHalfCloseAndEarlyBytes(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c, brw, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		// The greeting comes in the same segment as the head.
		fmt.Fprint(brw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\nwelcome\n")
		_ = brw.Flush()
		b, err := io.ReadAll(brw) // until the client's half-close
		fmt.Fprintf(c, "%d bytes, %v", len(b), err)
	}))))
	resp, br, c := raw(t, addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: isthmus-test\r\n\r\nearly", "GET")
	if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "isthmus-test" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	if line, _ := br.ReadString('\n'); line != "welcome\n" {
		t.Errorf("greeting %q", line)
	}
	if _, err := io.Copy(c, &pattern{left: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	_ = c.CloseWrite()
	b, err := io.ReadAll(br)
	if want := fmt.Sprintf("%d bytes, <nil>", 1<<20+len("early")); string(b) != want || err != nil {
		t.Errorf("after half-close: %q, %v; want %q", b, err, want)
	}
}

// docker exec posts its options and goes on in another protocol.
func TestAnUpgradeBehindABodyPasses(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		options, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		c, brw, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprintf(brw, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n%d bytes\n", r.Header.Get("Upgrade"), len(options))
		_ = brw.Flush()
		b, err := io.ReadAll(brw)
		fmt.Fprintf(c, "%q, %v", b, err)
	}))))
	const size = 200 << 10 // more than one buffer
	chunk := strings.Repeat("x", size)
	for name, c := range map[string]struct{ fields, first, rest string }{
		"at once":           {"Content-Length: 2", "{}", ""},
		"later":             {"Content-Length: 2", "", "{}"},
		"with early bytes":  {"Content-Length: 2", "{}early ", ""},
		"behind it":         {"Content-Length: 2", "{", "}early "},
		"chunked":           {"Transfer-Encoding: chunked", "2\r\n{}\r\n", "0\r\n\r\nearly "},
		"large":             {fmt.Sprintf("Content-Length: %d", size), chunk[:1000], chunk[1000:] + "early "},
		"large and chunked": {"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s", size, chunk[:1000]), chunk[1000:] + "\r\n0\r\n\r\nearly "},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(conn, "POST /exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n%s\r\n\r\n%s", c.fields, c.first)
		fmt.Fprint(conn, c.rest)
		br := bufio.NewReader(conn)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "tcp" {
			t.Fatalf("%s: %v, %v; want 101", name, resp, err)
		}
		want := "2 bytes\n"
		if strings.HasPrefix(name, "large") {
			want = fmt.Sprintf("%d bytes\n", size)
		}
		if line, err := br.ReadString('\n'); line != want {
			t.Errorf("%s: %q, %v; want %q", name, line, err, want)
		}
		fmt.Fprint(conn, "hello")
		_ = conn.(*net.TCPConn).CloseWrite()
		said := "hello"
		if strings.Contains(c.first+c.rest, "early") {
			said = "early hello"
		}
		if b, err := io.ReadAll(br); string(b) != fmt.Sprintf("%q, <nil>", said) || err != nil {
			t.Errorf("%s: the program read %s, %v; want %q", name, b, err, said)
		}
	}
}

func TestARefusedUpgradeLeavesAnOrdinaryConnection(t *testing.T) {
	w := newWorld(t)
	addr := w.outbound(route(mesh.HTTP, w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, "plain")
	}))))
	resp, br, c := raw(t, addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET")
	for range 2 {
		if b, err := io.ReadAll(resp.Body); string(b) != "plain" || err != nil {
			t.Fatalf("%q, %v", b, err)
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		var err error
		if resp, err = http.ReadResponse(br, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnUploadGoesOnAfterItsAnswerWasGiven(t *testing.T) {
	w := newWorld(t)
	got := make(chan int64, 1)
	// The answer is whole before the body, on a connection that stays; the client
	// wants to close afterwards.
	plain := fake(t, func(_ int, c *net.TCPConn) {
		br := bufio.NewReader(c)
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
		n, _ := io.Copy(io.Discard, r.Body)
		got <- n
	})
	addr := w.outbound(route(mesh.HTTP, plainAt("a", plain)))
	resp, _, c := raw(t, addr, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4194304\r\n\r\n", "POST")
	if resp.StatusCode != 202 {
		t.Fatalf("%d, want 202", resp.StatusCode)
	}
	if _, err := io.Copy(c, &pattern{left: 4 << 20}); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != 4<<20 {
		t.Errorf("the program got %d bytes of %d", n, 4<<20)
	}
}
