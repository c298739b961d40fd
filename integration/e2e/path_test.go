package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/isthmus-mesh/isthmus/integration/harness"
)

// pair is two clusters with one gateway each: shop/orders behind a sidecar in
// west, a caller's sidecar in east.
type pair struct {
	*testMesh
	east, west *gatewayProc
	caller     *sidecarProc
	url        string
}

func newPair(t *testing.T, protocol, target string) *pair {
	t.Helper()
	m := newMesh(t, "east", "west")
	p := &pair{testMesh: m, east: m.gateway("east", "east-1"), west: m.gateway("west", "west-1")}
	m.sidecar("west", "orders-1", "shop/orders", protocol, target, "")
	p.caller = m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/orders")
	p.url = "http://" + p.caller.listener + "/"
	m.settled(map[string]uint32{"west shop/orders": 1})
	return p
}

func TestBytesPassBothGatewaysUnharmed(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello from west") })
	mux.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%d %x", n, h.Sum(nil))
	})
	mux.HandleFunc("GET /bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.PathValue("n"))
		w.Header().Set("Content-Length", strconv.Itoa(n))
		block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
		for n > 0 {
			k, err := w.Write(block[:min(n, len(block))])
			if err != nil {
				return
			}
			n -= k
		}
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if c.Write(r.Context(), kind, b) != nil {
				return
			}
		}
	})
	program := httptest.NewServer(mux)
	defer program.Close()
	p := newPair(t, "http", program.Listener.Addr().String())
	p.answers(p.url+"hello", "hello from west")

	t.Run("a 200 MB request body", func(t *testing.T) {
		const size = 200_000_000
		sum := sha256.New()
		body := io.TeeReader(io.LimitReader(rand.Reader, size), sum)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"sum", body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = size
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if want := fmt.Sprintf("%d %x", size, sum.Sum(nil)); err != nil || string(got) != want {
			t.Errorf("the program received %q (%v), want %q", got, err, want)
		}
	})

	t.Run("a 200 MB response body", func(t *testing.T) {
		const size = 200_000_000
		resp, err := http.Get(p.url + "bytes/" + strconv.Itoa(size))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n, err := io.Copy(&pattern{}, resp.Body)
		if err != nil || n != size {
			t.Errorf("received %d bytes of %d: %v", n, size, err)
		}
	})

	t.Run("a WebSocket", func(t *testing.T) {
		c, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(p.url, "http")+"ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		for i := range 100 {
			sent := bytes.Repeat([]byte{byte(i)}, 1+i*37)
			if err := c.Write(t.Context(), websocket.MessageBinary, sent); err != nil {
				t.Fatal(err)
			}
			_, got, err := c.Read(t.Context())
			if err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("message %d came back as %d bytes of %d: %v", i, len(got), len(sent), err)
			}
		}
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	})

	t.Run("curl -p -x with a mesh certificate", func(t *testing.T) {
		curl := harness.Tool(t, "curl")
		out, err := exec.Command(curl, "-sS", "--max-time", "20", "-p", "-x", "http://"+p.east.mesh,
			"--cacert", p.path("caller-1/pki/roots.pem"), "--cert", p.path("caller-1/pki/cert.pem"), "--key", p.path("caller-1/pki/key.pem"),
			"https://orders.shop.mesh:80/hello").CombinedOutput()
		if err != nil || string(out) != "hello from west" {
			t.Errorf("curl: %v: %q", err, out)
		}
	})

	t.Run("openssl s_client -servername", func(t *testing.T) {
		openssl := harness.Tool(t, "openssl")
		cmd := exec.Command(openssl, "s_client", "-connect", p.east.mesh, "-servername", "orders.shop.mesh", "-quiet", "-no_ign_eof",
			"-verify_return_error", "-verify_hostname", "orders.shop.mesh", "-alpn", "http/1.1",
			"-CAfile", p.path("caller-1/pki/roots.pem"), "-cert", p.path("caller-1/pki/cert.pem"), "-key", p.path("caller-1/pki/key.pem"),
			"-cert_chain", p.path("caller-1/pki/cert.pem"))
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(in, "GET /hello HTTP/1.1\r\nHost: orders.shop.mesh\r\nConnection: close\r\n\r\n")
		stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		err = cmd.Wait() // the server closes after its answer
		stop.Stop()
		in.Close()
		if !strings.Contains(out.String(), "hello from west") {
			t.Errorf("openssl: %v\n%s", err, out.String())
		}
	})
}

// pattern checks the bytes of /bytes.
type pattern struct{ at int }

func (p *pattern) Write(b []byte) (int, error) {
	const cycle = "0123456789abcdef"
	for i, c := range b {
		if c != cycle[p.at%len(cycle)] {
			return i, fmt.Errorf("byte %d is %q", p.at, c)
		}
		p.at++
	}
	return len(b), nil
}

func TestTCPHalfClosesThroughBothGateways(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // answers only after the client has closed its side
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, err := io.ReadAll(c)
				if err == nil {
					fmt.Fprintf(c, "%d bytes, then the end", len(b))
				}
			}()
		}
	}()
	p := newPair(t, "tcp", l.Addr().String())
	p.eventually(func() error {
		c, err := net.Dial("tcp", p.caller.listener)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := c.Write(make([]byte, 100_000)); err != nil {
			return err
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		got, err := io.ReadAll(c)
		if want := "100000 bytes, then the end"; err == nil && string(got) != want {
			err = fmt.Errorf("got %q, want %q", got, want)
		}
		return err
	})
}

func TestAServiceWithoutASidecarIsServedAndComesBackWithItsGateway(t *testing.T) {
	t.Parallel()
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "plain") }))
	defer program.Close()
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	west := m.gateway("west", "west-1")
	west.service(t, "shop/legacy", "http", program.Listener.Addr().String())
	caller := m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/legacy")
	url := "http://" + caller.listener + "/"
	m.settled(map[string]uint32{"west shop/legacy": 1})
	m.answers(url, "plain")

	// Nobody knows whether it comes back: what was there lately is not called absent,
	// not even after a goodbye.
	for _, how := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		west.end(how)
		m.eventually(func() error {
			code, body, err := get(url)
			if err == nil && code != http.StatusServiceUnavailable {
				err = fmt.Errorf("after %v of west's gateway: %d %q, want 503", how, code, body)
			}
			return err
		})
		west.start()
		m.settled(map[string]uint32{"west shop/legacy": 1})
		m.answers(url, "plain")
	}
}

func TestAProgramAndItsSidecarEndTogether(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east")
	m.gateway("east", "east-1")
	ports := freePorts(t, 1)
	s := m.sidecar("east", "orders-1", "shop/orders", "http", ports[0], "",
		binary, "demo", "serve", "--listen", ports[0], "--cluster", "east", "--instance", "orders-1")
	m.settled(map[string]uint32{"east shop/orders": 1})
	s.end(9)
	m.settled(map[string]uint32{})
	m.eventually(func() error {
		c, err := net.Dial("tcp", ports[0])
		if err == nil {
			c.Close()
			return errors.New("the program runs without its sidecar")
		}
		return nil
	})
}
