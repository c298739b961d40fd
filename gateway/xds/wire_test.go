package xds

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// patience bounds every wait of these tests; it is reached only by a failure.
const patience = time.Minute

// service returns the destination of port 80 of shop/name.
func service(name string) mesh.Destination {
	return mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: name}, Port: 80}
}

// routeTo is a route to shop/name with n endpoints.
func routeTo(name string, n int) *mesh.Route {
	r := &mesh.Route{
		Destination: service(name),
		Protocol:    mesh.HTTP,
		Gateways:    []mesh.Endpoint{{Instance: "east-1", Address: "10.0.0.5:15443", Ready: true, Weight: 1}},
		Identities:  []string{"spiffe://mesh.example/cluster/east/ns/shop/sa/" + name},
	}
	for i := range n {
		r.Local = append(r.Local, mesh.Endpoint{
			Instance: fmt.Sprintf("%s-%d", name, i), Address: fmt.Sprintf("10.0.1.%d:15008", i+1), Ready: true, Weight: 1,
			Identity: r.Identities[0],
		})
	}
	return r
}

// gateway is a running server.
type gateway struct {
	*Server
	t    *testing.T
	addr string
	mesh *identitytest.Mesh
}

func start(t *testing.T, m *identitytest.Mesh, state string, routes ...*mesh.Route) *gateway {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Identity: m.Gateway("east", "east-1"), Cluster: "east", Listener: lis, StatePath: state, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); run.Wait() })
	g := &gateway{Server: s, t: t, addr: lis.Addr().String(), mesh: m}
	if routes != nil {
		g.publish(routes...)
	}
	return g
}

// publish publishes and waits until that is in force.
func (g *gateway) publish(routes ...*mesh.Route) {
	g.t.Helper()
	g.SetRoutes(routes, true)
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		g.cache.changed.Lock()
		applied := g.cache.routes != nil && len(g.cache.routes) == len(routes)
		for _, r := range routes {
			applied = applied && g.cache.routes[r.Destination.String()] == r
		}
		g.cache.changed.Unlock()
		if applied {
			return
		}
		if time.Now().After(end) {
			g.t.Fatal("not published")
		}
	}
}

// client is a delta ADS stream spoken by hand.
type client struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	close  func()
	inbox  chan *discoveryv3.DeltaDiscoveryResponse
	ended  chan error
}

func (g *gateway) connect(id *identity.Source) *grpc.ClientConn {
	g.t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+g.addr,
		grpc.WithTransportCredentials(credentials.NewTLS(id.ClientTLS("", identity.GatewayOf("east"), "h2"))))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { cc.Close() })
	return cc
}

func (g *gateway) dial(serviceAccount string) *client {
	g.t.Helper()
	return g.dialAs(g.mesh.Workload("east", "shop", serviceAccount))
}

func (g *gateway) dialAs(id *identity.Source) *client {
	g.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cc := g.connect(id)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(ctx)
	c := &client{t: g.t, stream: stream, inbox: make(chan *discoveryv3.DeltaDiscoveryResponse, 100), ended: make(chan error, 1)}
	if err != nil { // the handshake may be over before the stream is
		cancel()
		c.ended <- err
		return c
	}
	var receiver sync.WaitGroup
	receiver.Go(func() {
		for {
			resp, err := stream.Recv()
			if err != nil {
				c.ended <- err
				return
			}
			c.inbox <- resp
		}
	})
	c.close = func() { cancel(); cc.Close(); receiver.Wait() }
	g.t.Cleanup(c.close)
	return c
}

func (c *client) send(req *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	if req.TypeUrl == "" {
		req.TypeUrl = xds.EndpointType
	}
	if err := c.stream.Send(req); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) subscribe(names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: resourceNames(names)})
}

func (c *client) unsubscribe(names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: resourceNames(names)})
}

// resourceNames makes resource names of service names; "*" stays.
func resourceNames(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		if out[i] = n; n != "*" {
			out[i] = service(n).String()
		}
	}
	return out
}

// next returns the next response and acknowledges it.
func (c *client) next() *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	select {
	case resp := <-c.inbox:
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.TypeUrl, ResponseNonce: resp.Nonce})
		return resp
	case err := <-c.ended:
		c.t.Fatalf("stream ended: %v", err)
	case <-time.After(patience):
		c.t.Fatal("no response")
	}
	return nil
}

// expect checks what the next response has and removes.
func (c *client) expect(has, removed []string) *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	resp := c.next()
	var got []string
	for _, r := range resp.Resources {
		got = append(got, r.Name)
	}
	slices.Sort(got)
	gone := slices.Sorted(slices.Values(resp.RemovedResources))
	if !slices.Equal(got, resourceNames(has)) || !slices.Equal(gone, resourceNames(removed)) {
		c.t.Fatalf("told %v, removed %v; want %v and %v", got, gone, resourceNames(has), resourceNames(removed))
	}
	return resp
}

// quiet checks that nothing more was to be told: the answer to a further question
// is the next thing that comes.
func (c *client) quiet() {
	c.t.Helper()
	c.subscribe("nobody-asked-before")
	c.expect(nil, []string{"nobody-asked-before"})
	c.unsubscribe("nobody-asked-before")
	c.expect(nil, nil)
}

// node is a node that claims to be somebody else.
func node(id string) *corev3.Node { return &corev3.Node{Id: id} }
