package proxy

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
)

// unary is a program that speaks HTTP/2 and answers every call with a message and a status, as
// cheaply as can be.
func unary(b testing.TB) string {
	l := listen(b)
	head := []streams.Field{{Name: []byte("content-type"), Value: []byte("application/grpc")}}
	trailers := []streams.Field{{Name: []byte("grpc-status"), Value: []byte("0")}}
	message := make([]byte, 100)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				_ = streams.Server(c.(relay.Conn), streams.Config{}).Serve(func(s *streams.Stream) {
					var text [2 << 10]byte
					if _, _, err := s.ReadHead(text[:0]); err != nil {
						return
					}
					for {
						if _, err := s.Read(text[:]); err != nil {
							break
						}
					}
					s.Cork()
					_ = s.WriteResponse(200, head, false)
					_, _ = s.Write(message)
					_ = s.WriteTrailers(trailers)
					s.Uncork()
				})
			})
		}
	})
	b.Cleanup(func() { _ = l.Close(); running.Wait() })
	return l.Addr().String()
}

// call is a unary call that is made again and again.
type call struct {
	head         http2.RequestHead
	fields       []streams.Field
	message, buf []byte
}

func newCall() *call {
	return &call{
		head: http2.RequestHead{Method: []byte("POST"), Scheme: "http", Authority: []byte("a"), Path: []byte("/shop.Orders/Get")},
		fields: []streams.Field{
			{Name: []byte("content-type"), Value: []byte("application/grpc")}, {Name: []byte("te"), Value: []byte("trailers")},
			{Name: []byte("user-agent"), Value: []byte("bench")}, {Name: []byte("grpc-timeout"), Value: []byte("10S")},
		},
		message: make([]byte, 100), buf: make([]byte, 4<<10),
	}
}

// make makes it once.
func (call *call) make(c *streams.Conn) error {
	s, err := c.Open()
	if err != nil {
		return err
	}
	defer s.Release()
	s.Cork()
	if err := s.WriteRequest(&call.head, call.fields, false); err != nil {
		return err
	}
	_, _ = s.WriteLast(call.message)
	s.Uncork()
	if call.buf, _, err = s.ReadHead(call.buf[:0]); err != nil {
		return err
	}
	for call.buf = call.buf[:cap(call.buf)]; err == nil; {
		_, err = s.Read(call.buf)
	}
	if err != io.EOF {
		return err
	}
	return nil
}

// callAll makes b.N calls on one connection, so many at a time.
func callAll(b *testing.B, addr string, atOnce int) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	c := streams.Client(nc.(relay.Conn), streams.Config{})
	defer c.Close()
	b.ReportAllocs()
	work := make(chan struct{}, b.N)
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	b.ResetTimer()
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			call := newCall()
			for range work {
				if err := call.make(c); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkUnaryDirect is a gRPC call without a sidecar.
func BenchmarkUnaryDirect(b *testing.B) { callAll(b, unary(b), 50) }

// BenchmarkUnaryOutbound is a gRPC call through one sidecar.
func BenchmarkUnaryOutbound(b *testing.B) {
	callAll(b, newWorld(b).outbound(route(mesh.GRPC, plainAt("a", unary(b)))), 50)
}

// BenchmarkUnaryBothSidecars is a gRPC call through both, with mTLS between.
func BenchmarkUnaryBothSidecars(b *testing.B) {
	w := newWorld(b)
	callAll(b, w.outbound(route(mesh.GRPC, w.instance("east", "a", unary(b), mesh.GRPC))), 50)
}
