package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// TestACONNECTWithinACONNECTStreamIsRefused: each one more would have the bytes of the
// innermost be read once more.
func TestACONNECTWithinACONNECTStreamIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, protocol := range []mesh.Protocol{mesh.HTTP, mesh.GRPC, mesh.Auto} {
		ep := w.instance("east", "orders-1", w.program(target()), protocol)
		outer := opened(t, shared(t, ep.Address, ztunnelTLS(w.caller)), "orders.shop.mesh:80")
		inner := streams.Client(outer, streams.Config{})
		s, head := connected(t, inner, "orders.shop.mesh:80")
		if !strings.HasPrefix(head, "HTTP/1.1 405 ") {
			t.Errorf("%s: %q, want 405", protocol, head)
		}
		s.Release()
		_ = inner.Close()
	}
}

// TestWhoCallsSomebodyElseDoesNotLearnWhatIsHere: a workload cannot list services.
func TestWhoCallsSomebodyElseDoesNotLearnWhatIsHere(t *testing.T) {
	w := newWorld(t)
	for _, protocol := range []mesh.Protocol{mesh.HTTP, mesh.TCP} {
		ep := w.instance("east", "orders-1", w.refusing(), protocol)
		conn := shared(t, ep.Address, ztunnelTLS(w.caller))
		for _, authority := range []string{"a.b.mesh:1", "127.0.0.1:1", "127.0.0.9:80", "x:1"} {
			s, head := connected(t, conn, authority)
			if strings.Contains(head, orders.Name) || strings.Contains(head, orders.Namespace) {
				t.Errorf("CONNECT %s of %s: %q", authority, protocol, head)
			}
			s.Release()
		}
	}
}

// TestTheStreamsOfOneCallerLeaveRoomForAnother: each request of a shared connection may be a
// connection to the program, and counts as one.
func TestTheStreamsOfOneCallerLeaveRoomForAnother(t *testing.T) {
	w := newWorld(t)
	const places = 18
	held, leave := make(chan bool, 10*places), make(chan struct{})
	release := sync.OnceFunc(func() { close(leave) })
	var reading sync.WaitGroup
	defer reading.Wait()
	defer release()
	g := w.guarded(w.program(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			held <- true
			<-leave
		}
	})), mesh.HTTP)
	g.say(false)
	g.proxy.callers.SetTotal(places)
	addr := inboundAddr(g.proxy).String()
	greedy := shared(t, addr, w.caller.ClientTLS(orders.Host(), identity.AnyMember(), "h2"))
	refused := make(chan error, 2*places)
	for range 2 * places {
		s, err := greedy.Open()
		if err != nil {
			t.Fatal(err)
		}
		_ = s.SetDeadline(time.Now().Add(time.Minute))
		head := http2.RequestHead{Method: []byte("GET"), Scheme: "https", Authority: []byte("orders"), Path: []byte("/held")}
		if err := s.WriteRequest(&head, nil, true); err != nil {
			t.Fatal(err)
		}
		reading.Go(func() {
			defer s.Release()
			if _, _, err := s.ReadHead(nil); err != nil {
				refused <- err
			}
		})
	}
	var reset *streams.ResetError
	if err := <-refused; !errors.As(err, &reset) || reset.Code != http2.RefusedStream {
		t.Errorf("%v, want a stream that is refused", err)
	}
	another := http2Client(t, func(ctx context.Context) (net.Conn, error) {
		d := tls.Dialer{Config: w.mesh.Workload("east", orders.Namespace, "cart").ClientTLS(orders.Host(), identity.AnyMember(), "h2")}
		return d.DialContext(ctx, "tcp", addr)
	})
	resp, err := another.Get("https://orders.shop.mesh/")
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("another caller: %v, %v", resp, err)
	}
	if n := len(held); n >= places {
		t.Errorf("%d of %d places are one caller's", n, places)
	}
}
