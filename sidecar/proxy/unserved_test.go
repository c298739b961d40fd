package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// A service is scaled to nothing: one instance takes a request with it, the others are
// still told of and refuse. As the first of them is much heavier, it is asked first.
func TestARequestOfAServiceThatGoesAwayAtHomeIsServedByAnotherCluster(t *testing.T) {
	w := newWorld(t)
	var taken atomic.Int64
	first := w.instance("east", "orders-0", dying(t, &taken), mesh.HTTP)
	first.Weight = 10_000
	locals := []mesh.Endpoint{first}
	for i := range 7 {
		locals = append(locals, w.instance("east", fmt.Sprintf("orders-%d", i+1), w.refusing(), mesh.HTTP))
	}
	far := w.web("west", "orders-1", http.HandlerFunc(echoBody))
	r := route(mesh.HTTP, locals...)
	r.Identities = append(r.Identities, far.Identity)
	r.Gateways = []mesh.Endpoint{plainAt("east-1", newGateway(t, far.Address).addr)}
	for range 8 {
		if code, said := get(t, httpClient(t), "http://"+w.outbound(r)); code != 200 {
			t.Errorf("%d %s", code, said)
		}
	}
	if taken.Load() == 0 {
		t.Error("no request was taken by who went away: nothing was tested")
	}
}

func TestAnInstanceWhoseSidecarDoesNotReachItsProgramIsAskedOnce(t *testing.T) {
	w := newWorld(t)
	for name, ask := range map[string]func(addr string) error{
		"a request": func(addr string) error {
			if code, said := get(t, httpClient(t), "http://"+addr); code != 200 {
				return fmt.Errorf("%d %s", code, said)
			}
			return nil
		},
		"a TCP connection": func(addr string) error {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				return err
			}
			defer c.Close()
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 200") {
				return fmt.Errorf("it ended with %q", b)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			protocol := mesh.HTTP
			if name == "a TCP connection" {
				protocol = mesh.TCP
			}
			live := w.instance("east", "orders-1", w.program(http.HandlerFunc(echoBody)), protocol)
			gone := w.instance("east", "orders-2", w.refusing(), protocol)
			p := w.outboundProxy(route(protocol, live, gone))
			for range 20 {
				if err := ask(explicitAddr(p).String()); err != nil {
					t.Fatal(err)
				}
			}
			if left := out(p, gone.Instance); left.EjectedFor == 0 || !strings.Contains(left.LastError, "program") {
				t.Errorf("the one without its program: %+v, want it to be left alone after one request", left)
			}
			if left := out(p, live.Instance); left.EjectedFor != 0 {
				t.Errorf("the other: %+v", left)
			}
		})
	}
}

// out returns what p says of an instance of dest.
func out(p *Proxy, instance string) upstream.HostStatus {
	for _, h := range p.cfg.Upstreams.Service(dest).Status().Hosts {
		if h.Instance == instance {
			return h
		}
	}
	return upstream.HostStatus{}
}
