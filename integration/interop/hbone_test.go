package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	isthmus "github.com/isthmus-mesh/isthmus/sidecar/proxy"
)

// peer calls by CONNECT streams of one HTTP/2 connection, as a ztunnel does: the connection
// is TLS without a server name, and each stream names an address and a port.
type peer struct {
	t    *testing.T
	conn *http2.ClientConn
}

func newPeer(t *testing.T, id *identity.Source, addr string) *peer {
	t.Helper()
	tcp, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	over := tls.Client(tcp, id.ClientTLS("", identity.AnyMember(), "h2"))
	if err := over.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := new(http2.Transport).NewClientConn(over) //nolint:staticcheck // a client that nobody here wrote
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &peer{t, conn}
}

// connect opens a CONNECT stream; the response's body is what comes back.
func (p *peer) connect(authority string) (*http.Response, *io.PipeWriter, error) {
	r, w := io.Pipe()
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	p.t.Cleanup(cancel)
	req := (&http.Request{Method: http.MethodConnect, URL: &url.URL{Host: authority}, Host: authority, Header: http.Header{}, Body: r, ContentLength: -1}).WithContext(ctx)
	resp, err := p.conn.RoundTrip(req)
	return resp, w, err
}

// tunnel is a CONNECT stream as a connection.
type tunnel struct {
	net.Conn // nil: what is not used
	body     io.ReadCloser
	w        *io.PipeWriter
}

func (c tunnel) Read(b []byte) (int, error)  { return c.body.Read(b) }
func (c tunnel) Write(b []byte) (int, error) { return c.w.Write(b) }
func (c tunnel) CloseWrite() error           { return c.w.Close() }
func (c tunnel) SetDeadline(time.Time) error { return nil } // the request's context ends it
func (c tunnel) Close() error                { return errors.Join(c.w.Close(), c.body.Close()) }

func TestAnHBONEPeerCallsAWorkload(t *testing.T) {
	echo, web := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	echoes(t, echo)
	serves(t, web)
	mesh := newAuthorities(t)
	addr := "127.0.0.1:" + free(t)
	run(t, isthmus.Config{Identity: mesh.workload("server"), Inbound: &isthmus.Inbound{
		Listen: addr, Ports: served(t, echo.Addr().String(), web.Addr().String()),
	}}, atHome)
	client := mesh.workload("client")
	p := newPeer(t, client, addr)
	callsBoth(t, func(l net.Listener) (net.Conn, error) {
		resp, w, err := p.connect("127.0.0.1:" + port(l))
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != 200 {
			return nil, errors.New(resp.Status)
		}
		return tunnel{body: resp.Body, w: w}, nil
	}, echo, web, "URI="+client.ID().String())

	for authority, want := range map[string]int{"127.0.0.1:1": 404, "127.0.0.9:" + port(echo): 404, "echo.shop.mesh:8": 404, "example.com:80": 400} {
		resp, w, err := p.connect(authority)
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		_ = resp.Body.Close()
		if resp.StatusCode != want || resp.Header.Get("Proxy-Status") == "" {
			t.Errorf("CONNECT %s: %s, %q; want %d and why", authority, resp.Status, resp.Header.Get("Proxy-Status"), want)
		}
	}
}

// called serves CONNECT streams for the services that dial connects to, as a ztunnel
// beside them does. It returns how many connections have come.
func called(t *testing.T, id *identity.Source, l net.Listener, dial func(authority string) (net.Conn, error)) (connections func() int) {
	t.Helper()
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "CONNECT only", http.StatusBadRequest)
			return
		}
		c, err := dial(r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		defer c.Close()
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		go func() {
			_, _ = io.Copy(c, r.Body)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		for b := make([]byte, 32<<10); ; {
			n, err := c.Read(b)
			if n > 0 {
				_, _ = w.Write(b[:n])
				_ = http.NewResponseController(w).Flush()
			}
			if err != nil {
				return
			}
		}
	})
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			over := tls.Server(c, id.ServerTLS(identity.AnyMember(), "h2"))
			mu.Lock()
			open[over] = true
			mu.Unlock()
			serving.Go(func() {
				if over.HandshakeContext(t.Context()) == nil {
					new(http2.Server).ServeConn(over, &http2.ServeConnOpts{Handler: handler}) //nolint:staticcheck // a server that nobody here wrote
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(open)
	}
}

func TestAnHBONEPeerIsCalledOnOneConnection(t *testing.T) {
	echo, web, inbound := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	echoes(t, echo)
	serves(t, web)
	mesh := newAuthorities(t)
	server := mesh.workload("server")
	programs := map[string]string{"echo.shop.mesh:7": echo.Addr().String(), "web.shop.mesh:80": web.Addr().String()}
	var down atomic.Bool
	connections := called(t, server, inbound, func(authority string) (net.Conn, error) {
		if down.Load() {
			return nil, errors.New("the program is down")
		}
		return net.Dial("tcp", programs[authority])
	})
	toEcho, toWeb := "127.0.0.1:"+free(t), "127.0.0.1:"+free(t)
	run(t, calling(t, mesh.workload("client"), []string{server.ID().String()}, inbound.Addr().String(), toEcho, toWeb, nil), atHome)
	addresses := map[net.Listener]string{echo: toEcho, web: toWeb}
	callsBoth(t, func(l net.Listener) (net.Conn, error) { return net.Dial("tcp", addresses[l]) }, echo, web, "")
	if n := connections(); n != 2 { // of each service port one
		t.Errorf("%d connections for 4 that were made, want 2", n)
	}

	// What it refuses is a reset for the caller.
	down.Store(true)
	c, err := net.Dial("tcp", toEcho)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err := io.ReadAll(c); err == nil {
		t.Error("an ordinary end, want a reset")
	}
}
