package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const okReply = "HTTP/1.1 200 OK\r\nIsthmus-Cluster: west\r\nIsthmus-Instance: orders-1\r\n\r\n"

func TestALocalEndpointIsReachedByMutualTLS(t *testing.T) {
	w := newWorld(t)
	_, s := w.set(t, &mesh.Route{Local: at(serve(t, echo(w.orders)), ordersWest)})
	h, conn := mustGet(t, s)
	if conn.Sent() || conn.Answered() || conn.Reused {
		t.Error("a new connection claims to have been used")
	}
	exchange(t, conn, "hello")
	if !conn.Sent() || !conn.Answered() {
		t.Error("a used connection claims to be unused")
	}
	if conn.Cluster != "east" || conn.Instance != "orders-1" || conn.Peer != ordersWest || h.key.gateway {
		t.Errorf("answered by %s/%s as %s", conn.Cluster, conn.Instance, conn.Peer)
	}
}

func TestAPlainEndpointIsReachedInTheClear(t *testing.T) {
	w := newWorld(t)
	_, s := w.set(t, &mesh.Route{Local: at(serve(t, func(c net.Conn) { _, _ = io.Copy(c, c) }), "")})
	_, conn := mustGet(t, s)
	exchange(t, conn, "hello")
	if conn.Peer != "" {
		t.Errorf("a plain endpoint has proved to be %s", conn.Peer)
	}
}

func TestAPeerThatMayNotAnswerIsRefused(t *testing.T) {
	w := newWorld(t)
	_, s := w.set(t, &mesh.Route{Local: at(serve(t, echo(w.mesh.Workload("west", "shop", "mallory"))), ordersWest)})
	_, _, err := get(t, s)
	ce := connectError(t, err)
	if ce.Stage != StageHandshake {
		t.Errorf("stage %s, want %s", ce.Stage, StageHandshake)
	}
	contains(t, err, "expected "+ordersWest, "sa/mallory", "orders.shop.mesh:80")
}

// The gateway that tells the routes may have been taken over: who it lists is believed
// only as far as the one's certificates allow.
func TestAPeerThatAGatewayListsAndThatMayNotAnswerIsRefused(t *testing.T) {
	w := newWorld(t)
	w.mesh.Confine("evil", "lair")
	for want, who := range map[string]*identity.Source{
		"is no workload of namespace shop":      w.mesh.Workload("west", "bank", "ledger"),
		"cluster evil may not offer namespace":  w.mesh.Workload("evil", "shop", "orders"),
		"evil may not offer namespace shop: it": w.mesh.Gateway("evil", "evil-1"),
	} {
		id := who.ID().String()
		_, s := w.set(t, &mesh.Route{Local: at(serve(t, echo(who)), id), Identities: []string{id}})
		_, _, err := get(t, s)
		if ce := connectError(t, err); ce.Stage != StageHandshake {
			t.Errorf("%s: stage %s, want %s", id, ce.Stage, StageHandshake)
		}
		contains(t, err, want)
	}
}

func TestAPeerOfAnotherTrustDomainIsRefused(t *testing.T) {
	w := newWorld(t)
	other := identitytest.New(t, "mesh.example").Workload("west", "shop", "orders")
	_, s := w.set(t, &mesh.Route{Local: at(serve(t, echo(other)), ordersWest)})
	if _, _, err := get(t, s); connectError(t, err).Stage != StageHandshake {
		t.Errorf("error %v, want a refused handshake", err)
	}
}

func TestARouteWithoutIdentitiesIsServedByNobody(t *testing.T) {
	w := newWorld(t)
	_, s := w.set(t, &mesh.Route{Local: at(serve(t, echo(w.orders)), ordersWest), Identities: []string{}})
	if _, _, err := get(t, s); connectError(t, err).Stage != StageHandshake {
		t.Errorf("error %v, want a refused handshake", err)
	}
}

func TestWithoutACertificateAMeshEndpointIsAnErrorThatSaysWhatToDo(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	s.Update([]*mesh.Route{{Destination: orders, Local: at(serve(t, func(net.Conn) {}), ordersWest)}})
	_, _, err := get(t, s.Service(orders))
	contains(t, err, "set identity")
}

func TestARefusedConnectEjectsTheHostAndTheNextIsTried(t *testing.T) {
	w := newWorld(t)
	live := serve(t, echo(w.orders))
	eps := append(at(deadAddr(t), ordersWest), at(live, ordersWest)...)
	_, s := w.set(t, &mesh.Route{Local: eps})
	for range 20 {
		var try Attempts
		for {
			h, ok := s.pickHost(s.shared.now(), &try)
			if !ok {
				t.Fatal("nobody left to ask")
			}
			conn, err := h.get(t.Context(), &try)
			if err != nil {
				if ce := connectError(t, err); ce.Stage != StageConnect || ce.Gateway {
					t.Fatalf("error %v, want a failed connect to an endpoint", err)
				}
				h.done(h.service.shared.now(), &try, nil, Broken, 0)
				continue
			}
			exchange(t, conn, "hello")
			h.done(h.service.shared.now(), &try, conn, Answered, time.Millisecond)
			h.put(conn)
			break
		}
	}
	for _, st := range s.Status().Hosts {
		if ejected := st.EjectedFor > 0; ejected == (st.Address == live) {
			t.Errorf("host %s: ejected %v, last error %q", st.Address, ejected, st.LastError)
		}
		if st.Active != 0 {
			t.Errorf("host %s: %d requests active, want 0", st.Address, st.Active)
		}
	}
}

func TestThePayloadComesRightBehindConnectAndTheReplyMayBeCutAnywhere(t *testing.T) {
	w := newWorld(t)
	for name, g := range map[string]*fakeGateway{
		"the reply alone":                   {},
		"the reply in one segment with TLS": {join: true},
		"the reply byte by byte":            {slow: true},
		"an early hint before the reply": {join: true, decide: func(string) (string, func(net.Conn)) {
			return "HTTP/1.1 103 Early Hints\r\n\r\n" + okReply, echo(w.orders)
		}},
		"a reply with a reason and no length": {decide: func(string) (string, func(net.Conn)) {
			return "HTTP/1.1 200 Connection established\r\nIsthmus-Cluster: west\r\nIsthmus-Instance: orders-1\r\n\r\n", echo(w.orders)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			heads := make(chan string, 1)
			behind := make(chan []byte, 1)
			decide := g.decide
			g.decide = func(head string) (string, func(net.Conn)) {
				heads <- head
				if decide != nil {
					return decide(head)
				}
				return okReply, echo(w.orders)
			}
			g.behind = func(p []byte) { behind <- bytes.Clone(p) }
			_, s := w.set(t, &mesh.Route{Gateways: at(serve(t, g.handle), "")})
			h, conn := mustGet(t, s)
			if want := "CONNECT orders.shop.mesh:80 HTTP/1.1\r\nHost: orders.shop.mesh:80\r\nIsthmus-Exclude: east\r\nIsthmus-Goodbye: 1"; <-heads != want {
				t.Errorf("the head is not %q", want)
			}
			// 0x16 is a TLS handshake record.
			if p := <-behind; len(p) == 0 || p[0] != 0x16 {
				t.Errorf("%d bytes came with the CONNECT head, want the ClientHello", len(p))
			}
			exchange(t, conn, strings.Repeat("0123456789", 10_000))
			if conn.Cluster != "west" || conn.Instance != "orders-1" || conn.Peer != ordersWest || !h.key.gateway {
				t.Errorf("answered by %s/%s as %s", conn.Cluster, conn.Instance, conn.Peer)
			}
		})
	}
}

func TestARefusalIsATypedErrorWithWhatProxyStatusSays(t *testing.T) {
	w := newWorld(t)
	g := &fakeGateway{decide: func(string) (string, func(net.Conn)) {
		return "HTTP/1.1 503 Service Unavailable\r\nProxy-Status: isthmus-west-1; error=destination_unavailable; details=\"no ready endpoint for shop/orders\"\r\nContent-Length: 3\r\n\r\nno\n", nil
	}}
	_, s := w.set(t, &mesh.Route{Gateways: at(serve(t, g.handle), "")})
	h, _, err := get(t, s)
	ce := connectError(t, err)
	var r *connect.Refusal
	if !errors.As(err, &r) || ce.Stage != StagePath || !ce.Gateway {
		t.Fatalf("error %v, want a refusal of the path by a gateway", err)
	}
	if r.Status != 503 || r.Proxy != "isthmus-west-1" || r.Type != connect.DestinationUnavailable || r.Details != "no ready endpoint for shop/orders" {
		t.Errorf("refusal %+v", *r)
	}
	contains(t, err, "orders.shop.mesh:80", "gateway", "503", "isthmus-west-1", "no ready endpoint for shop/orders")
	if h.outlier.ejected() {
		t.Error("one refusal ejected the gateway, which works")
	}
}

func TestAGatewayThatSpeaksSomethingElseIsAnErrorThatSaysSo(t *testing.T) {
	w := newWorld(t)
	for name, reply := range map[string]string{
		"not HTTP":      "SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"endless head":  "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 32<<10),
		"endless hints": strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10) + "garbage\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			g := &fakeGateway{decide: func(string) (string, func(net.Conn)) { return reply, nil }}
			_, s := w.set(t, &mesh.Route{Gateways: at(serve(t, g.handle), "")})
			_, _, err := get(t, s)
			if ce := connectError(t, err); ce.Stage != StagePath {
				t.Errorf("stage %s, want %s", ce.Stage, StagePath)
			}
			contains(t, err, "mesh port")
		})
	}
}

func TestAGatewayThatClosesWithoutAReplyIsEjected(t *testing.T) {
	w := newWorld(t)
	_, s := w.set(t, &mesh.Route{Gateways: at(serve(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 16<<10))
		_ = c.Close()
	}), "")})
	h, _, err := get(t, s)
	if connectError(t, err).Stage != StagePath || !h.outlier.ejected() {
		t.Errorf("error %v, ejected %v; want a failed path and an ejection", err, h.outlier.ejected())
	}
}

func TestAnInstanceThatFailsBehindAGatewayIsExcludedFromTheNextPath(t *testing.T) {
	w := newWorld(t)
	var heads []string
	g := &fakeGateway{}
	g.decide = func(head string) (string, func(net.Conn)) { // one connection at a time
		heads = append(heads, head[strings.Index(head, "Isthmus-Exclude"):])
		if len(heads) == 1 {
			return strings.Replace(okReply, "orders-1", "orders-2", 1), echo(w.mesh.Workload("west", "shop", "mallory"))
		}
		return okReply, echo(w.orders)
	}
	_, s := w.set(t, &mesh.Route{Gateways: at(serve(t, g.handle), "")})
	var try Attempts
	h, _ := s.pickHost(s.shared.now(), &try)
	_, err := h.get(t.Context(), &try)
	if ce := connectError(t, err); ce.Stage != StageHandshake || ce.Instance != "orders-2" {
		t.Fatalf("error %v, want a failed handshake with west/orders-2", err)
	}
	contains(t, err, "west/orders-2")
	h.done(h.service.shared.now(), &try, nil, Broken, 0)
	if h.outlier.ejected() {
		t.Fatal("the gateway was ejected for what an instance did")
	}
	again, ok := s.pickHost(s.shared.now(), &try)
	if !ok || again != h {
		t.Fatal("the gateway may not be asked for another instance")
	}
	conn, err := again.get(t.Context(), &try)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exchange(t, conn, "hello")
	if got := fmt.Sprint(heads); got != "[Isthmus-Exclude: east\r\nIsthmus-Goodbye: 1 Isthmus-Exclude: east, west/orders-2\r\nIsthmus-Goodbye: 1]" {
		t.Errorf("exclusions %s", got)
	}
}

func TestWhenOnlyExcludedInstancesAreLeftTheyAreAskedAfterAll(t *testing.T) {
	w := newWorld(t)
	g := &fakeGateway{decide: func(head string) (string, func(net.Conn)) {
		if strings.Contains(head, "orders-1") {
			return "HTTP/1.1 503 Service Unavailable\r\n\r\n", nil
		}
		return okReply, echo(w.orders)
	}}
	_, s := w.set(t, &mesh.Route{Gateways: at(serve(t, g.handle), "")})
	s.remotes.excludeIfFailing(connect.Instance{Cluster: "west", Name: "orders-1"}, s.shared.now(), unconnected)
	_, conn := mustGet(t, s)
	exchange(t, conn, "hello")
}

// A stopped process still has its connections accepted, by its kernel.
func TestAFrozenHostCostsARequestTheHandshakeBoundAndIsEjected(t *testing.T) {
	for name, tt := range map[string]struct {
		gateway bool
		stage   Stage
		says    string
	}{
		"endpoint": {false, StageHandshake, "the TLS handshake was not answered within 2s"},
		"gateway":  {true, StagePath, "the gateway did not answer CONNECT within 2s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				live := echo(w.orders)
				s := New(Config{Identity: w.caller, Cluster: "east", Dial: pipes(func(addr string, c net.Conn) {
					if addr == "frozen:1" {
						_, _ = io.Copy(io.Discard, c)
						return
					}
					live(c)
				})})
				r := &mesh.Route{Destination: orders, Protocol: mesh.HTTP, Identities: []string{ordersWest}, Local: at("frozen:1", ordersWest)}
				if tt.gateway {
					r.Local, r.Gateways = nil, r.Local
				}
				s.Update([]*mesh.Route{r})
				defer s.Close()
				start := time.Now()
				h, _, err := get(t, s.Service(orders))
				if got := time.Since(start); got != openTimeout {
					t.Errorf("the attempt took %v, want %v", got, openTimeout)
				}
				if ce := connectError(t, err); ce.Stage != tt.stage {
					t.Errorf("stage %s, want %s", ce.Stage, tt.stage)
				}
				contains(t, err, tt.says, "frozen")
				if !h.outlier.ejected() {
					t.Error("the host was not ejected")
				}
			})
		})
	}
}

func TestAFrozenInstanceBehindAGatewayIsEjectedAndNotTheGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		g := &fakeGateway{decide: func(string) (string, func(net.Conn)) {
			return okReply, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
		}}
		s := New(Config{Identity: w.caller, Cluster: "east", Dial: pipes(func(_ string, c net.Conn) { g.handle(c) })})
		defer s.Close()
		s.Update([]*mesh.Route{{Destination: orders, Protocol: mesh.HTTP, Identities: []string{ordersWest}, Gateways: at("gw:1", "")}})
		service := s.Service(orders)
		h, _, err := get(t, service)
		if ce := connectError(t, err); ce.Stage != StageHandshake || ce.Cluster != "west" || ce.Instance != "orders-1" {
			t.Errorf("error %v, want a handshake that west/orders-1 did not answer", err)
		}
		if h.outlier.ejected() {
			t.Error("the gateway was ejected")
		}
		if got := service.Status().Avoided; len(got) != 1 || got[0] != "west/orders-1" {
			t.Errorf("avoided instances: %v, want west/orders-1", got)
		}
		time.Sleep(minEjection)
		if got := service.Status().Avoided; len(got) != 0 {
			t.Errorf("avoided instances: %v after %v, want none", got, minEjection)
		}
	})
}

func TestAConnectThatIsNotAnsweredEndsAfterASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		defer s.Close()
		s.Update([]*mesh.Route{{Destination: orders, Local: at("lost:1", "")}})
		start := time.Now()
		_, _, err := get(t, s.Service(orders))
		if got := time.Since(start); got != connectTimeout || connectError(t, err).Stage != StageConnect {
			t.Errorf("after %v: %v; want a failed connect after %v", got, err, connectTimeout)
		}
	})
}

func TestACallerWhoLeavesBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := New(Config{Identity: w.caller, Dial: pipes(func(_ string, c net.Conn) { _, _ = io.Copy(io.Discard, c) })})
		defer s.Close()
		s.Update([]*mesh.Route{{Destination: orders, Identities: []string{ordersWest}, Local: at("slow:1", ordersWest)}})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		h, _ := s.Service(orders).pickHost(s.shared.now(), new(Attempts))
		_, err := h.get(ctx, nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want the context's", err)
		}
		if h.troubled.Load() {
			t.Error("the host was blamed")
		}
	})
}

func TestAConnectionThatSucceedsEndsAnEjectionForFailedConnects(t *testing.T) {
	w := newWorld(t)
	_, s := w.set(t, &mesh.Route{Protocol: mesh.TCP, Local: at(serve(t, echo(w.orders)), ordersWest)})
	h, _ := s.pickHost(s.shared.now(), new(Attempts))
	h.ejectIfFailing(s.shared.now(), unconnected, "refused")
	if _, err := h.get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if h.outlier.ejected() {
		t.Error("a TCP connection lasts for hours: it must not wait for Done")
	}
}
