package proxy

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// holding is a program that greets whoever connects, and then holds the connections
// without a goroutine each.
func holding(t testing.TB) string {
	l := listen(t)
	var mu sync.Mutex
	var conns []net.Conn
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("hello"))
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}()
	return l.Addr().String()
}

// inUse is what the process holds once collections have freed what can be: heap,
// stacks, and the runtime's own structures for them.
func inUse() uint64 {
	for range 5 { // pools are emptied by the second, and a stack shrinks by half each time
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse + m.MSpanInuse + m.OtherSys
}

// BenchmarkIdleTCP says what an idle TCP connection costs the sidecars that it goes
// through, in bytes, without the kernel's part and what the client and the program
// hold. Run it with -benchtime=1x.
func BenchmarkIdleTCP(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		for _, way := range []string{"plain", "mtls"} {
			b.Run(fmt.Sprintf("%s/%d", way, n), func(b *testing.B) {
				var files syscall.Rlimit
				if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < uint64(n)*20 { // of which callers may have a part
					b.Skipf("%d connections need ulimit -n %d; it is %d", n, n*20, files.Cur)
				}
				w := newWorld(b)
				program := holding(b)
				ep := plainAt("a", program)
				if way == "mtls" {
					ep = w.instance("east", "orders-1", program, mesh.TCP)
				}
				addr := w.outbound(route(mesh.TCP, ep))
				for b.Loop() {
					cost := func(addr string) float64 {
						before := inUse()
						conns := hold(b, addr, n)
						time.Sleep(3 * time.Second) // they become idle
						after := inUse()
						for _, c := range conns {
							_ = c.Close()
						}
						return float64(int64(after-before)) / float64(n)
					}
					direct := cost(program)
					time.Sleep(time.Second)
					b.ReportMetric(cost(addr)-direct, "B/conn")
				}
			})
		}
	}
}

// hold opens n connections, each of which has been greeted and has said something.
func hold(t testing.TB, addr string, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, len("hello"))); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte("hello"))
		conns[i] = c
	}
	return conns
}
