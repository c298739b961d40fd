package upstream

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// asked keeps the targets of CONNECTs.
type asked struct {
	mu  sync.Mutex
	all []string
}

func (a *asked) add(head string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, target, _ := strings.Cut(head, "CONNECT ")
	target, _, _ = strings.Cut(target, " ")
	a.all = append(a.all, target)
	return target
}

func (a *asked) list() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all
}

func TestALostRequestStaysInItsClusterUnlessThatIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		gone bool
		loss Loss
		want []string
	}{
		"its cluster is there":       {false, Lost, []string{"orders.shop.mesh:80", "orders.shop.west.mesh:80"}},
		"its cluster is gone":        {true, Lost, []string{"orders.shop.mesh:80", "orders.shop.west.mesh:80", "orders.shop.mesh:80"}},
		"the host is out of service": {true, OutOfService, []string{"orders.shop.mesh:80"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var targets asked
			g := &fakeGateway{decide: func(head string) (string, func(net.Conn)) {
				if target := targets.add(head); c.gone && strings.Contains(target, "west") {
					return "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", nil
				}
				return "HTTP/1.1 200 OK\r\nIsthmus-Cluster: west\r\nIsthmus-Instance: orders-1\r\n\r\n", echo(w.orders)
			}}
			_, service := w.set(t, &mesh.Route{Gateways: []mesh.Endpoint{{Instance: "east-1", Address: serve(t, g.handle), Ready: true, Weight: 1}}})
			var a Attempts
			a.Begin(service, DefaultRetries(), time.Now())
			lose := func() {
				l, err := a.Next(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				l.Done(Broken, 0)
				_ = l.Abort()
			}
			lose()
			if !a.MayRetry(c.loss, true) || !a.Retry(c.loss) {
				t.Fatal("the first loss may not be repeated")
			}
			lose()
			// A refusal is asked again without the instance that failed.
			if got := slices.Compact(targets.list()); strings.Join(got, " ") != strings.Join(c.want, " ") {
				t.Errorf("asked for %q, want %q", got, c.want)
			}
			if a.MayRetry(Lost, true) != (c.loss == OutOfService) {
				t.Error("a request of which two may have died is repeated, or one of which nobody has is not")
			}
			if a.MayRetry(OutOfService, false) || !a.MayRetry(Unseen, false) {
				t.Error("a request that may be executed once only is repeated, or not repeated when nobody saw it")
			}
		})
	}
}

func TestWhatWasDeclinedAsksAnotherInstanceFirstAndThenTheSame(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	var served, refused int
	g := &fakeGateway{decide: func(head string) (string, func(net.Conn)) {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(head, "west/orders-1") { // there is no other
			refused++
			return "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", nil
		}
		served++
		return "HTTP/1.1 200 OK\r\nIsthmus-Cluster: west\r\nIsthmus-Instance: orders-1\r\n\r\n", echo(w.orders)
	}}
	_, service := w.set(t, &mesh.Route{Gateways: []mesh.Endpoint{{Instance: "east-1", Address: serve(t, g.handle), Ready: true, Weight: 1}}})
	var a Attempts
	a.Begin(service, DefaultRetries(), time.Now())
	a.Repeatable(1)
	for n := range 2 {
		l, err := a.Next(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if may := a.MayRetry(Declined, true) && a.Retry(Declined); may != (n == 0) {
			t.Errorf("after %d answers it may be sent again: %v", n+1, may)
		}
		if a.MayRetry(Lost, true) || a.MayRetry(OutOfService, true) || !a.MayRetry(Unseen, true) {
			t.Error("more is sent than was declared, or what nobody saw is not sent")
		}
		l.Done(Answered, 0)
		_ = l.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if served != 2 || refused == 0 {
		t.Errorf("served %d times, want 2; refused %d times while it was excluded", served, refused)
	}
}
