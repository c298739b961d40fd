package streams

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// BenchmarkPaths measures what one turn of 100 bytes there and back costs both ends together,
// in CPU, over mTLS on loopback: on a connection per path, and on streams of one connection.
// The streams are tunnels that stay; requests are a stream each, with heads.
func BenchmarkPaths(b *testing.B) {
	m := identitytest.New(b, "mesh.example")
	server, client := m.Workload("east", "shop", "orders"), m.Workload("east", "shop", "caller")
	secured := func(b *testing.B) (near, far net.Conn) {
		near, far = sockets(b)
		var ends sync.WaitGroup
		over := tls.Server(far, server.ServerTLS(identitytest.AnyWorkload(), "h2"))
		ends.Go(func() {
			if err := over.Handshake(); err != nil {
				b.Error(err)
			}
		})
		own := identity.Client(near, client.ClientTLS("orders.shop.mesh", identitytest.AnyWorkload(), "h2"))
		if err := own.HandshakeContext(b.Context()); err != nil {
			b.Fatal(err)
		}
		ends.Wait()
		return own, over
	}
	for _, paths := range []int{8, 50, 200} {
		b.Run(fmt.Sprintf("connections/%d", paths), func(b *testing.B) {
			var all sync.WaitGroup
			defer all.Wait()
			turns := make([]func([]byte) error, paths)
			for i := range turns {
				near, far := secured(b)
				defer near.Close()
				all.Go(func() {
					buf := make([]byte, 4<<10)
					_, _ = io.CopyBuffer(struct{ io.Writer }{far}, struct{ io.Reader }{far}, buf)
				})
				turns[i] = turnOn(near)
			}
			measure(b, turns)
		})
		b.Run(fmt.Sprintf("streams/%d", paths), func(b *testing.B) {
			turns := make([]func([]byte) error, paths)
			open := openShared(b, secured, paths, echo)
			for i := range turns {
				s := open(b)
				defer s.Release()
				if err := s.WriteRequest(post, nil, false); err != nil {
					b.Fatal(err)
				}
				if _, _, err := s.ReadHead(nil); err != nil {
					b.Fatal(err)
				}
				turns[i] = turnOn(s)
			}
			measure(b, turns)
		})
		b.Run(fmt.Sprintf("requests/%d", paths), func(b *testing.B) {
			turns := make([]func([]byte) error, paths)
			open := openShared(b, secured, paths, answer)
			for i := range turns {
				head := make([]byte, 0, 4<<10)
				turns[i] = func(buf []byte) error {
					s := open(b)
					defer s.Release()
					s.Cork()
					if err := s.WriteRequest(post, fields, false); err != nil {
						return err
					}
					if _, err := s.WriteLast(buf); err != nil {
						return err
					}
					s.Uncork()
					if _, _, err := s.ReadHead(head); err != nil {
						return err
					}
					_, err := io.ReadFull(s, buf)
					return err
				}
			}
			measure(b, turns)
		})
	}
}

// openShared returns what opens streams on as many connections as they need.
func openShared(b *testing.B, secured func(*testing.B) (near, far net.Conn), paths int, f func(*Stream)) func(testing.TB) *Stream {
	conns := make([]*Conn, (paths+http2.DefaultMaxStreams-1)/http2.DefaultMaxStreams)
	for i := range conns {
		near, far := secured(b)
		conns[i], _ = pair(b, near, far, f)
	}
	var next atomic.Int64
	return func(t testing.TB) *Stream {
		for {
			s, err := conns[int(next.Add(1))%len(conns)].Open()
			if err == nil {
				return s
			}
		}
	}
}

var fields = []Field{{[]byte("content-type"), []byte("text/plain")}, {[]byte("x-request-id"), []byte("7b0e2a5c-1f4d-4c6b-9d3e-2a1b0c9d8e7f")}, {[]byte("user-agent"), []byte("bench")}}

var heads4K = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// answer answers a request with its body.
func answer(s *Stream) {
	head := heads4K.Get().(*[4 << 10]byte)
	defer heads4K.Put(head)
	if _, _, err := s.ReadHead(head[:0]); err != nil {
		return
	}
	n, err := io.ReadFull(s, head[:100])
	if err != nil {
		return
	}
	s.Cork()
	_ = s.WriteResponse(200, fields[:1], false)
	_, _ = s.WriteLast(head[:n])
	s.Uncork()
}

// turnOn is a turn on a path that stays.
func turnOn(c io.ReadWriter) func([]byte) error {
	return func(buf []byte) error {
		if _, err := c.Write(buf); err != nil {
			return err
		}
		_, err := io.ReadFull(c, buf)
		return err
	}
}

// measure runs b.N turns on all paths at a time.
func measure(b *testing.B, turns []func([]byte) error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var callers sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	for _, turn := range turns {
		callers.Go(func() {
			buf := make([]byte, 100)
			for left.Add(-1) >= 0 {
				if err := turn(buf); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
}

// cpu is what this process has used of it.
func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
