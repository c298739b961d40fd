package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// http2Client speaks HTTP/2 and nothing else; without TLS by prior knowledge. dial gives the
// connections.
func http2Client(t *testing.T, dial func(ctx context.Context) (net.Conn, error)) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	tr.Protocols.SetHTTP2(true)
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// plainTo dials addr.
func plainTo(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

func TestClientsOfHTTP2AreServedWhereHTTPIsDeclared(t *testing.T) {
	w := newWorld(t)
	ep := w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(rw, "%s %q from %s", r.Proto, b, r.Header.Get("X-Forwarded-Client-Cert"))
	}))
	addr := w.outbound(route(mesh.HTTP, ep))
	secure := func(ctx context.Context) (net.Conn, error) {
		d := tls.Dialer{Config: w.caller.ClientTLS("_80.orders.shop.mesh", identity.AnyMember(), "h2")}
		return d.DialContext(ctx, "tcp", ep.Address)
	}
	for name, tc := range map[string]struct {
		url  string
		dial func(context.Context) (net.Conn, error)
	}{
		"by prior knowledge, outbound": {"http://orders.shop.mesh/", plainTo(addr)},
		"by ALPN, inbound":             {"https://orders.shop.mesh/", secure},
	} {
		c := http2Client(t, tc.dial)
		for range 2 {
			resp, err := c.Post(tc.url, "text/plain", strings.NewReader("hello"))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				break
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if !strings.HasPrefix(string(b), `HTTP/1.1 "hello" from By=`) || !strings.HasSuffix(string(b), w.caller.ID().String()) || resp.ProtoMajor != 2 {
				t.Errorf("%s: %s %q, %v", name, resp.Proto, b, err)
			}
		}
	}
}

func TestARequestOnASharedConnectionToATCPPortIsRefusedInHTTP2(t *testing.T) {
	w := newWorld(t)
	ep := w.instance("east", "orders-1", fakes(t, func(*net.TCPConn) {}), mesh.TCP)
	c := http2Client(t, func(ctx context.Context) (net.Conn, error) {
		d := tls.Dialer{Config: w.caller.ClientTLS("_80.orders.shop.mesh", identity.AnyMember(), "h2")}
		return d.DialContext(ctx, "tcp", ep.Address)
	})
	resp, err := c.Get("https://orders.shop.mesh/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 405 || !strings.Contains(resp.Header.Get("Proxy-Status"), "only CONNECT is served") {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
}

func TestAClientOfHTTP2ThatIsRefusedIsToldWhyInHTTP2(t *testing.T) {
	w := newWorld(t)
	addr, _ := w.steered(w.program(http.NotFoundHandler()), mesh.HTTP, false)
	resp, err := http2Client(t, plainTo(addr)).Get("http://orders.shop.mesh/")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != 403 || !strings.Contains(string(b), "interception.inbound") {
		t.Errorf("%s %q", resp.Status, b)
	}
}
