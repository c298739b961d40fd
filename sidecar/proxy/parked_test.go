package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// parking is a proxy whose clients of HTTP/1.1 wait without a goroutine as soon as they are idle.
func (w *world) parking() *Proxy {
	w.t.Helper()
	r := route(mesh.HTTP, plainAt("a", w.program(http.HandlerFunc(echoBody))))
	set := upstream.New(upstream.Config{})
	w.t.Cleanup(set.Close)
	store := routes.NewStore(set.Update, nil)
	store.Replace([]*mesh.Route{r}, nil)
	p, err := New(Config{Routes: store, Upstreams: set, Explicit: []Explicit{{Listen: "127.0.0.1:0", Destination: dest}}})
	if err != nil {
		w.t.Fatal(err)
	}
	p.servers[0].leads.Load().http.Park = 0 // at once
	return w.run(p)
}

// until waits for what must become so.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after a minute: %s", what)
		}
	}
}

func TestIdleClientsOfHTTPWaitTogetherAndGoOn(t *testing.T) {
	const put = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none"
	ends := func(p *Proxy) func() bool { return func() bool { return p.conns[outbound].Len() == 0 } }
	for name, then := range map[string]func(*testing.T, *Proxy, *bufio.Reader, *net.TCPConn){
		"with requests in pieces": func(t *testing.T, p *Proxy, br *bufio.Reader, c *net.TCPConn) {
			for range 3 {
				for _, piece := range []string{put[:3], put[3:30], put[30:]} {
					fmt.Fprint(c, piece)
				}
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "PUT one" {
					t.Fatalf("%q, %v", body, err)
				}
				until(t, "it waits again", func() bool { return p.waiting.Len() == 1 })
			}
		},
		"to the client's end": func(t *testing.T, p *Proxy, br *bufio.Reader, c *net.TCPConn) {
			_ = c.CloseWrite()
			if _, err := br.ReadByte(); err != io.EOF {
				t.Errorf("after our end: %v, want EOF", err)
			}
			until(t, "the connection is gone", ends(p))
		},
		"to the client's reset": func(t *testing.T, p *Proxy, _ *bufio.Reader, c *net.TCPConn) {
			_ = c.SetLinger(0)
			_ = c.Close()
			until(t, "the connection is gone", ends(p))
		},
		"until descriptors are short": func(t *testing.T, p *Proxy, br *bufio.Reader, _ *net.TCPConn) {
			p.Shed()
			if _, err := br.ReadByte(); err == nil || err == io.EOF {
				t.Errorf("%v, want a reset", err)
			}
			until(t, "the connection is gone", ends(p))
		},
		"until the proxy ends": func(t *testing.T, p *Proxy, br *bufio.Reader, _ *net.TCPConn) {
			if err := p.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := br.ReadByte(); err != io.EOF {
				t.Errorf("%v, want EOF", err)
			}
		},
		"while a drain lets a last request in": func(t *testing.T, p *Proxy, br *bufio.Reader, c *net.TCPConn) {
			left := p.conns[outbound].Drain(time.Now().Add(time.Minute))
			until(t, "a goroutine has it", func() bool { return p.waiting.Len() == 0 })
			fmt.Fprint(c, put)
			resp, err := http.ReadResponse(br, nil)
			if err != nil || !resp.Close {
				t.Errorf("%v, %v; want an answer that says it is the last", resp, err)
			}
			<-left
		},
		"until all is aborted": func(t *testing.T, p *Proxy, br *bufio.Reader, _ *net.TCPConn) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = p.Shutdown(ctx)
			if _, err := br.ReadByte(); err == nil {
				t.Error("it goes on")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newWorld(t).parking()
			resp, br, c := raw(t, explicitAddr(p).String(), put, "PUT")
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "PUT one" {
				t.Fatalf("%q, %v", body, err)
			}
			until(t, "it waits without a goroutine", func() bool { return p.waiting.Len() == 1 })
			then(t, p, br, c)
		})
	}
}

func TestAClientThatSaysNothingForLongMaySpeakHTTP2(t *testing.T) {
	p := newWorld(t).parking()
	nc, err := net.Dial("tcp", explicitAddr(p).String())
	if err != nil {
		t.Fatal(err)
	}
	until(t, "it waits without a goroutine", func() bool { return p.waiting.Len() == 1 })
	c := streams.Client(nc.(relay.Conn), streams.Config{})
	defer c.Close()
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	_ = s.SetDeadline(time.Now().Add(time.Minute))
	head := &http2.RequestHead{Method: []byte("GET"), Scheme: "http", Authority: []byte("a"), Path: []byte("/")}
	if err := s.WriteRequest(head, nil, true); err != nil {
		t.Fatal(err)
	}
	answer, _, err := s.ReadHead(nil)
	if err != nil || string(answer[:12]) != "HTTP/1.1 200" {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestATCPConnectionThatIsIdleEndsWithItsProxy(t *testing.T) {
	w := newWorld(t)
	p := w.outboundProxy(route(mesh.TCP, w.instance("east", "orders-1", holding(t), mesh.TCP)))
	conns := hold(t, explicitAddr(p).String(), 3)
	until(t, "they wait without a goroutine", func() bool { return p.waiting.Len() == len(conns) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = p.Shutdown(ctx) // which waits for all
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("%v, want a reset", err)
		}
		_ = c.Close()
	}
}
