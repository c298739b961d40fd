package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// freezing is a sidecar that is frozen once it has taken its first connection: its
// kernel goes on taking others. What came is handed to serve.
func (w *world) freezing(t *testing.T, taken *atomic.Int64, serve func(net.Conn)) mesh.Endpoint {
	id := w.mesh.Workload("east", orders.Namespace, orders.Name)
	addr := fakes(t, func(c *net.TCPConn) {
		if taken.Add(1) > 1 {
			_, _ = io.Copy(io.Discard, c)
			return
		}
		over := tls.Server(c, id.ServerTLS(identitytest.AnyWorkload(), "http/1.1"))
		serve(over)
		_, _ = io.Copy(io.Discard, over)
	})
	return mesh.Endpoint{Instance: "orders-1", Address: addr, Ready: true, Weight: 1, Identity: id.ID().String()}
}

func TestARequestThatMayNotBeRepeatedIsAnsweredSoonAfterItsHostIsFrozen(t *testing.T) {
	for name, begin := range map[string]string{
		"no answer":        "",
		"an answer begins": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var taken, others atomic.Int64
			waits := make(chan struct{})
			hung := w.freezing(t, &taken, func(c net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.WriteString(c, begin)
				}
				close(waits)
			})
			live := plainAt("b", w.program(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { others.Add(1) })))
			p := w.outboundProxy(route(mesh.HTTP, hung))
			answer := make(chan string)
			go func() {
				resp, err := httpClient(t).Post("http://"+explicitAddr(p).String(), "a/b", strings.NewReader("order"))
				if err != nil {
					answer <- err.Error()
					return
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				answer <- fmt.Sprint(resp.StatusCode, string(b), err)
			}()
			<-waits
			hung.Ready = false
			p.cfg.Upstreams.Update([]*mesh.Route{route(mesh.HTTP, hung, live)})
			got := <-answer
			if begin == "" && (!strings.HasPrefix(got, "504") || !strings.Contains(got, "frozen")) || begin != "" && !strings.Contains(got, "unexpected EOF") && !strings.Contains(got, "reset") {
				t.Errorf("got %q", got)
			}
			if others.Load() != 0 {
				t.Error("another instance was asked")
			}
		})
	}
}

func TestARequestWaitsForAHostThatDrains(t *testing.T) {
	w := newWorld(t)
	var asked atomic.Int64
	release := make(chan struct{})
	slow := w.web("east", "orders-1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-release
		fmt.Fprint(rw, "done")
	}))
	p := w.outboundProxy(route(mesh.HTTP, slow))
	answer := make(chan string)
	go func() {
		code, said := ask(t, explicitAddr(p).String(), "POST")
		answer <- fmt.Sprint(code, said)
	}()
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	slow.Ready = false
	p.cfg.Upstreams.Update([]*mesh.Route{route(mesh.HTTP, slow)})
	time.AfterFunc(1500*time.Millisecond, func() { close(release) }) // after a look at the host
	if got := <-answer; !strings.HasPrefix(got, "200") {
		t.Errorf("got %q", got)
	}
}

func TestARelayedConnectionIsResetSoonAfterItsHostIsFrozen(t *testing.T) {
	w := newWorld(t)
	var taken atomic.Int64
	waits := make(chan struct{})
	hung := w.freezing(t, &taken, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		close(waits)
	})
	r := route(mesh.TCP, hung)
	p := w.outboundProxy(r)
	c, err := net.Dial("tcp", explicitAddr(p).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	<-waits
	hung.Ready = false
	p.cfg.Upstreams.Update([]*mesh.Route{route(mesh.TCP, hung)})
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("%v, want a reset", err)
	}
}
