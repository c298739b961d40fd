package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/register"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// sidecar is the sidecar's end of a registration stream that the server under test
// serves.
type sidecar struct {
	grpc.ServerStream
	ctx   context.Context
	told  chan *register.Registration
	acks  chan *register.Ack
	ended chan error
	cut   context.CancelFunc // the connection breaks
}

func (c *sidecar) Context() context.Context { return c.ctx }

func (c *sidecar) Recv() (*register.Registration, error) {
	select {
	case m, ok := <-c.told:
		if !ok {
			return nil, io.EOF
		}
		return m, nil
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
}

func (c *sidecar) Send(a *register.Ack) error {
	select {
	case c.acks <- a:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// call has account of namespace call s from ip.
func call(t *testing.T, s *Server, namespace, account, ip string) *sidecar {
	t.Helper()
	return callAs(t, s, identity.ID{TrustDomain: "mesh.example", Cluster: "east", Namespace: namespace, ServiceAccount: account}, ip)
}

func callAs(t *testing.T, s *Server, id identity.ID, ip string) *sidecar {
	t.Helper()
	uri, err := url.Parse(id.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cut := context.WithCancel(t.Context())
	c := &sidecar{told: make(chan *register.Registration), acks: make(chan *register.Ack, 1), ended: make(chan error, 1), cut: cut}
	c.ctx = peer.NewContext(ctx, &peer.Peer{
		Addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 40000},
		AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{
			HandshakeComplete: true, PeerCertificates: []*x509.Certificate{{URIs: []*url.URL{uri}, NotAfter: time.Now().Add(time.Hour)}},
		}},
	})
	go func() {
		err := s.Register(c)
		cut()
		c.ended <- err
	}()
	return c
}

// register tells the server of a registration and returns what it says to it.
func (c *sidecar) register(m *register.Registration) (*register.Ack, error) {
	c.told <- m
	select {
	case a := <-c.acks:
		return a, nil
	case err := <-c.ended:
		return nil, err
	}
}

// resources is what the operator says.
type resources struct {
	state.Store[[]discovery.Described]
}

func serving(service string, accounts ...string) discovery.Described {
	name, err := mesh.ParseServiceName(service)
	if err != nil {
		panic(err)
	}
	return discovery.Described{Service: discovery.Service{Name: name, Declared: true}, Serves: accounts}
}

// instances returns instance=address of the only service.
func instances(t *testing.T, s *Server) string {
	t.Helper()
	set, _ := s.Snapshot()
	var all []string
	for _, svc := range set {
		for _, p := range svc.Ports {
			for _, e := range p.Endpoints {
				all = append(all, e.Instance+"="+e.Address)
			}
		}
	}
	return strings.Join(all, " ")
}

func TestAServiceIsRegisteredByItsOwnAccountOrWhoIsListed(t *testing.T) {
	said := []discovery.Described{serving("shop/cart"), serving("shop/orders", "canary")}
	id := func(namespace, account string) identity.ID {
		return identity.ID{TrustDomain: "mesh.example", Cluster: "east", Namespace: namespace, ServiceAccount: account}
	}
	for _, c := range []struct {
		id      identity.ID
		service string
		said    []discovery.Described
		code    codes.Code
		says    string
	}{
		{id("shop", "orders"), "shop/orders", said, codes.OK, ""},
		{id("shop", "orders"), "shop/orders", nil, codes.OK, ""},
		{id("shop", "canary"), "shop/orders", said, codes.OK, ""},
		{id("shop", "canary"), "shop/orders", nil, codes.Unavailable, "try again"},
		{id("shop", "canary"), "shop/cart", said, codes.PermissionDenied, "write serves: [canary] into the spec of the Service shop/cart"},
		{id("shop", "web"), "shop/orders", said, codes.PermissionDenied, "isthmus pki workload --cluster east shop/orders"},
		{id("bank", "orders"), "shop/orders", said, codes.PermissionDenied, "its own namespace"},
		{id("bank", "canary"), "shop/orders", said, codes.PermissionDenied, "its own namespace"},
	} {
		name, err := mesh.ParseServiceName(c.service)
		if err != nil {
			t.Fatal(err)
		}
		err = mayServe(c.said, c.id, name)
		if status.Code(err) != c.code || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s as %s: %v, want %s with %q", c.id, c.service, err, c.code, c.says)
		}
	}
}

func TestAWorkloadCannotRegisterAsAServiceThatIsNotItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, Config{})
		orders := call(t, s, "shop", "orders", "10.0.0.7")
		if _, err := orders.register(message()); err != nil {
			t.Fatal(err)
		}
		for _, thief := range []struct{ account, instance string }{{"web", "orders-2"}, {"web", "orders-1"}} {
			m := message()
			m.Instance = thief.instance
			_, err := call(t, s, "shop", thief.account, "10.0.0.8").register(m)
			if status.Code(err) != codes.PermissionDenied {
				t.Errorf("account %s registers as shop/orders: %v", thief.account, err)
			}
		}
		if got := instances(t, s); got != "orders-1=10.0.0.7:15008" {
			t.Errorf("shop/orders is %s", got)
		}
		if r := s.Refused(); len(r) != 2 || r[0].Service != "shop/orders" || !strings.HasSuffix(r[0].Peer, "/sa/web") {
			t.Errorf("the refusals are %+v", r)
		}
		orders.cut()
	})
}

func TestACARegistersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, Config{})
		ca := callAs(t, s, identity.ID{TrustDomain: "mesh.example", Cluster: "east", CA: "ca-1"}, "10.0.0.9")
		if err := <-ca.ended; status.Code(err) != codes.PermissionDenied {
			t.Error(err)
		}
	})
}

func TestWhoIsNotListedAnyMoreIsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said resources
		s := server(t, Config{Resources: said.Snapshot})
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = s.Run(ctx) })
		defer run.Wait()
		defer cancel()

		canary := call(t, s, "shop", "canary", "10.0.0.8")
		canary.told <- message()
		synctest.Wait()
		if got := instances(t, s); got != "" {
			t.Fatalf("before the resources are known there is %s", got)
		}
		said.Set([]discovery.Described{serving("shop/orders", "canary")})
		<-canary.acks
		if got := instances(t, s); got != "orders-1=10.0.0.8:15008" {
			t.Fatalf("shop/orders is %s", got)
		}
		said.Set([]discovery.Described{serving("shop/orders")})
		if err := <-canary.ended; status.Code(err) != codes.PermissionDenied {
			t.Errorf("its stream ends with %v", err)
		}
		if got := instances(t, s); got != "" {
			t.Errorf("shop/orders is still %s", got)
		}
	})
}

func TestNobodyCanTakeOrBlockAnInstanceName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, Config{})
		squatter, owner := call(t, s, "shop", "orders", "10.0.0.9"), call(t, s, "shop", "orders", "10.0.0.7")
		for _, c := range []*sidecar{squatter, owner} {
			if _, err := c.register(message()); err != nil {
				t.Fatalf("with a name that another has: %v", err)
			}
		}
		got := strings.Fields(instances(t, s))
		if len(got) != 2 || got[0] != "orders-1=10.0.0.9:15008" || !strings.HasSuffix(got[1], "=10.0.0.7:15008") || !strings.HasPrefix(got[1], "orders-1-") {
			t.Fatalf("shop/orders is %v, want both: the later one under a name of its own", got)
		}
		close(squatter.told) // withdraws
		<-squatter.ended
		ack, err := owner.register(message())
		if err != nil || ack.GetInstance() != "orders-1" {
			t.Errorf("once the name is free: %v, %v", ack, err)
		}
		if got := instances(t, s); got != "orders-1=10.0.0.7:15008" {
			t.Errorf("shop/orders is %s", got)
		}
		owner.cut()
	})
}

func TestASidecarThatRestartsTakesTheNameOfItsOwnPast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, Config{})
		past, present := call(t, s, "shop", "orders", "10.0.0.7"), call(t, s, "shop", "orders", "10.0.0.7")
		for _, c := range []*sidecar{past, present} { // the gateway has not noticed the end of the first
			if ack, err := c.register(message()); err != nil || ack.GetInstance() != "orders-1" {
				t.Fatalf("%v, %v", ack, err)
			}
		}
		if err := <-past.ended; status.Code(err) != codes.AlreadyExists {
			t.Errorf("the old stream ends with %v", err)
		}
		if got := instances(t, s); got != "orders-1=10.0.0.7:15008" {
			t.Errorf("shop/orders is %s", got)
		}
		present.cut()
	})
}

func TestWhoIsAtAnAddressIsNotReplacedByWhoIsNot(t *testing.T) {
	s := server(t, Config{})
	e := entry{stream: newStream(caller(), callerAddr, s.log), own: true, endpoint: mesh.Endpoint{Instance: "orders-1", Address: "10.0.0.7:15008", Identity: caller().String()}}
	k := key{mesh.ServiceName{Namespace: "shop", Name: "orders"}, 80, "orders-1"}
	if _, err := s.put(k, e); err != nil {
		t.Fatal(err)
	}
	thief := e
	thief.stream, thief.own = newStream(caller(), callerAddr, s.log), false // a replica that proved the address of another
	if _, err := s.put(k, thief); status.Code(err) != codes.AlreadyExists {
		t.Errorf("%v", err)
	}
	s.remove(k, thief.stream, true)
	if got := instances(t, s); got != "orders-1=10.0.0.7:15008" {
		t.Errorf("shop/orders is %s", got)
	}
}

// filled returns a server that holds n registrations, with those that account of
// namespace shop flooded it with. It holds no more.
func filled(t *testing.T, n int) (*Server, *stream) {
	t.Helper()
	s := server(t, Config{})
	s.most = n
	flood := newStream(identity.ID{TrustDomain: "mesh.example", Cluster: "east", Namespace: "shop", ServiceAccount: "orders"}, callerAddr, s.log)
	for i := range n {
		if _, err := put(s, flood, i); err != nil {
			t.Fatal(err)
		}
	}
	return s, flood
}

// put registers the i-th instance of the service of st's account.
func put(s *Server, st *stream, i int) (key, error) {
	return s.put(key{mesh.ServiceName{Namespace: st.id.Namespace, Name: st.id.ServiceAccount}, 80, fmt.Sprint("i", i)},
		entry{stream: st, endpoint: mesh.Endpoint{Address: fmt.Sprintf("10.0.0.7:%d", i), Weight: 1, Identity: st.id.String()}})
}

func TestAFloodOfOneNamespaceDoesNotPushOutAnother(t *testing.T) {
	s, flood := filled(t, 1000)
	bank := newStream(identity.ID{TrustDomain: "mesh.example", Cluster: "east", Namespace: "bank", ServiceAccount: "ledger"}, callerAddr, s.log)
	for i := range 500 {
		if _, err := put(s, bank, i); err != nil {
			t.Fatalf("registration %d of another namespace: %v", i, err)
		}
	}
	if err := <-flood.ended; status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "namespace shop") {
		t.Errorf("who is left out is told %v", err)
	}
	if _, err := put(s, bank, 500); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("beyond its share: %v", err)
	}
	if _, err := put(s, flood, 1000); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the flood goes on: %v", err)
	}
	if got := s.holders.namespaces; got["shop"] != 500 || got["bank"] != 500 || len(s.entries) != 1000 {
		t.Errorf("the namespaces have %v", got)
	}
	if _, err := put(s, bank, 0); err != nil {
		t.Errorf("who is in, and only says something new: %v", err)
	}
}

func TestOneIdentityThatNeverRestsDoesNotFillTheLogOrTheOtherClustersTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := server(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		said := func() (n int, err error) {
			for c := call(t, s, "shop", "orders", "10.0.0.7"); err == nil && n <= 2*identityBurst; n++ {
				_, err = c.register(&register.Registration{Service: "shop/orders", Port: 80, Protocol: "http", Instance: fmt.Sprint("i-", n), Address: ":15008"})
			}
			return n - 1, err
		}
		n, err := said()
		if n != identityBurst || status.Code(err) != codes.ResourceExhausted || instances(t, s) != "" {
			t.Errorf("%d registrations, then %v, and %s stay", n, err, instances(t, s))
		}
		lines := strings.Count(log.String(), "\n")
		for range 100 {
			_, err = said()
		}
		if more := strings.Count(log.String(), "\n") - lines; more > 0 || status.Code(err) != codes.ResourceExhausted {
			t.Errorf("who tries on makes %d lines: %v", more, err)
		}
		if _, err := call(t, s, "zoo", "lion", "10.0.0.7").register(&register.Registration{Service: "zoo/lion", Port: 80, Protocol: "http", Instance: "a", Address: ":15008"}); err != nil {
			t.Errorf("another identity: %v", err)
		}
		time.Sleep(10 * time.Second)
		if n, _ := said(); n != 10*identityRate {
			t.Errorf("%d registrations after a while", n)
		}
	})
}

func TestOneIdentityHasSoManyRegistrationsAndSoMuchWeight(t *testing.T) {
	s := server(t, Config{})
	hog := newStream(caller(), callerAddr, s.log)
	first, err := put(s, hog, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxPerIdentity - 1 {
		if _, err := put(s, hog, i+1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := put(s, hog, maxPerIdentity); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more: %v", err)
	}
	if _, err := put(s, newStream(identity.ID{Namespace: "shop", ServiceAccount: "cart"}, callerAddr, s.log), 0); err != nil {
		t.Errorf("another identity: %v", err)
	}
	s.remove(first, hog, true)
	if _, err := put(s, hog, maxPerIdentity); err != nil {
		t.Errorf("in place of what is withdrawn: %v", err)
	}
	heavy := newStream(identity.ID{Namespace: "shop", ServiceAccount: "heavy"}, callerAddr, s.log)
	for i := 0; ; i++ {
		k := key{mesh.ServiceName{Namespace: "shop", Name: "heavy"}, 80, fmt.Sprint(i)}
		_, err := s.put(k, entry{stream: heavy, endpoint: mesh.Endpoint{Address: fmt.Sprint(i), Weight: mesh.MaxWeight, Identity: "heavy"}})
		if err != nil {
			if status.Code(err) != codes.ResourceExhausted || i != maxWeightPerIdentity/mesh.MaxWeight {
				t.Errorf("registration %d of the greatest weight: %v", i, err)
			}
			break
		}
	}
}

func TestAServiceHasNoMorePortsThanOtherClustersCanBeTold(t *testing.T) {
	s := server(t, Config{})
	st := newStream(caller(), callerAddr, s.log)
	port := func(p uint16, instance string) error {
		_, err := s.put(key{mesh.ServiceName{Namespace: "shop", Name: "orders"}, p, instance}, entry{stream: st, endpoint: mesh.Endpoint{Address: instance}})
		return err
	}
	for p := range uint16(maxPorts) {
		if err := port(p+1, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := port(maxPorts+1, "a"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more: %v", err)
	}
	if err := port(1, "b"); err != nil {
		t.Errorf("another instance of a port that is there: %v", err)
	}
	s.remove(key{mesh.ServiceName{Namespace: "shop", Name: "orders"}, 2, "a"}, st, true)
	if err := port(maxPorts+1, "a"); err != nil {
		t.Errorf("in place of one that is gone: %v", err)
	}
}

func TestOfTwoProtocolsOfAPortThatOfMostCounts(t *testing.T) {
	s := server(t, Config{})
	st := newStream(caller(), callerAddr, s.log)
	say := func(i int, p mesh.Protocol) mesh.Protocol {
		t.Helper()
		k := key{mesh.ServiceName{Namespace: "shop", Name: "orders"}, 80, fmt.Sprint(i)}
		if _, err := s.put(k, entry{stream: st, protocol: p, endpoint: mesh.Endpoint{Address: fmt.Sprint(i)}}); err != nil {
			t.Fatal(err)
		}
		set, _ := s.Snapshot()
		return set[0].Ports[0].Protocol
	}
	say(1, mesh.HTTP)
	say(2, mesh.HTTP)
	if got := say(0, mesh.TCP); got != mesh.HTTP {
		t.Errorf("one against two makes it %s", got)
	}
	say(3, mesh.TCP)
	if got := say(4, mesh.TCP); got != mesh.TCP {
		t.Errorf("three against two leave it %s", got)
	}
}

func TestAStreamThatBreaksTakesItsRegistrationWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, Config{})
		c := call(t, s, "shop", "orders", "10.0.0.7")
		if _, err := c.register(message()); err != nil {
			t.Fatal(err)
		}
		c.cut()
		if err := <-c.ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if got := instances(t, s); got != "" {
			t.Errorf("still there: %s", got)
		}
	})
}
