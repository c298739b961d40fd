package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// answering is a program that answers every request head of one segment with the
// same bytes, as cheaply as a goroutine can.
func answering(b *testing.B, answer []byte) string {
	l := listen(b)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 16<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						if _, err := c.Write(answer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// drive sends b.N requests over keep-alive connections, one at a time on each.
func drive(b *testing.B, addr string, answer int) {
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		br := bufio.NewReaderSize(c, 64<<10)
		request := []byte("GET /catalog/items/4711 HTTP/1.1\r\nHost: orders.shop.mesh\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
		for pb.Next() {
			if _, err := c.Write(request); err != nil {
				b.Error(err)
				return
			}
			if _, err := br.Discard(answer); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func benchAnswer(body int) []byte {
	return []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", body, strings.Repeat("x", body)))
}

// BenchmarkDirect is the program without a sidecar: what the others stand on.
func BenchmarkDirect(b *testing.B) {
	answer := benchAnswer(1024)
	drive(b, answering(b, answer), len(answer))
}

// BenchmarkOutboundPlain is one sidecar: explicit listener to a plain endpoint.
func BenchmarkOutboundPlain(b *testing.B) {
	w := newWorld(b)
	answer := benchAnswer(1024)
	addr := w.outbound(route(mesh.HTTP, plainAt("a", answering(b, answer))))
	drive(b, addr, len(answer))
}

// BenchmarkBothSidecars is the whole way in a cluster: explicit listener, mTLS,
// inbound, program.
func BenchmarkBothSidecars(b *testing.B) {
	w := newWorld(b)
	answer := benchAnswer(1024)
	addr := w.outbound(route(mesh.HTTP, w.instance("east", "orders-1", answering(b, answer), mesh.HTTP)))
	drive(b, addr, len(answer))
}

// BenchmarkLargeAnswer is 1 MiB through both sidecars.
func BenchmarkLargeAnswer(b *testing.B) {
	w := newWorld(b)
	answer := benchAnswer(1 << 20)
	b.SetBytes(1 << 20)
	addr := w.outbound(route(mesh.HTTP, w.instance("east", "orders-1", answering(b, answer), mesh.HTTP)))
	drive(b, addr, len(answer))
}

// BenchmarkTCP is a byte there and back through both sidecars on one connection.
func BenchmarkTCP(b *testing.B) {
	w := newWorld(b)
	target := fake(b, func(_ int, c *net.TCPConn) { _, _ = io.Copy(struct{ io.Writer }{c}, c) })
	addr := w.outbound(route(mesh.TCP, w.instance("east", "orders-1", target, mesh.TCP)))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	one := make([]byte, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, one); err != nil {
			b.Fatal(err)
		}
	}
}
