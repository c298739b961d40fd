package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// bidi is a gRPC program that answers each message with itself.
func bidi(t *testing.T) string {
	l := listen(t)
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		for {
			var m grpc_health_v1.HealthCheckRequest
			if err := s.RecvMsg(&m); err != nil {
				return err
			}
			if err := s.SendMsg(&m); err != nil {
				return err
			}
		}
	}))
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Stop(); wg.Wait() })
	return l.Addr().String()
}

// Outlier detection is about hosts: streams that their callers cancel in both directions
// at once say nothing about one.
func TestManyCancelledStreamsEjectNobody(t *testing.T) {
	w := newWorld(t)
	p := w.outboundProxy(route(mesh.GRPC, w.instance("east", "a", bidi(t), mesh.GRPC)))
	conn, err := grpc.NewClient("passthrough:///"+explicitAddr(p).String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for range 20 {
		ctx, cancel := context.WithCancel(within(t))
		for range 50 {
			stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/x.Y/Bidi")
			if err == nil {
				err = stream.SendMsg(&grpc_health_v1.HealthCheckRequest{})
			}
			if err == nil {
				err = stream.RecvMsg(&grpc_health_v1.HealthCheckRequest{})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		for _, h := range p.cfg.Upstreams.Service(dest).Status().Hosts {
			if h.EjectedFor > 0 {
				t.Fatalf("ejected: %+v", h)
			}
		}
	}
}

// Nor does a body that its caller has malformed.
func TestMalformedBodiesEjectNobody(t *testing.T) {
	w := newWorld(t)
	began := make(chan struct{}, 1)
	p := w.outboundProxy(route(mesh.HTTP, w.web("east", "a", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
	}))))
	for range 20 {
		c, err := net.Dial("tcp", explicitAddr(p).String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
		<-began
		_, _ = io.WriteString(c, "no size\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Fatalf("%v %v, want 400", resp, err)
		}
		_ = resp.Body.Close()
		_ = c.Close()
		for _, h := range p.cfg.Upstreams.Service(dest).Status().Hosts {
			if h.EjectedFor > 0 || h.LastError != "" {
				t.Fatalf("blamed: %+v", h)
			}
		}
	}
}

// A gRPC channel is one connection: a program that opens many streams knows of no bound.
func TestAProgramsChannelCarriesManyOpenStreams(t *testing.T) {
	w := newWorld(t)
	p := w.outboundProxy(route(mesh.GRPC, w.instance("east", "a", bidi(t), mesh.GRPC)))
	conn, err := grpc.NewClient("passthrough:///"+explicitAddr(p).String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx := within(t)
	for i := range 300 {
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/x.Y/Bidi")
		if err == nil {
			err = stream.SendMsg(&grpc_health_v1.HealthCheckRequest{})
		}
		if err == nil {
			err = stream.RecvMsg(&grpc_health_v1.HealthCheckRequest{})
		}
		if err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
}
