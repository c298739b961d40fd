package proxy

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Random bytes, and requests with random bytes in them, on both listeners: every
// connection ends or is answered, and the listeners go on.
func TestGarbageOnEveryPortHurtsNobody(t *testing.T) {
	w := newWorld(t)
	ep := w.web("east", "orders-1", http.HandlerFunc(echoBody))
	addr := w.outbound(route(mesh.HTTP, ep))
	random := rand.New(rand.NewPCG(1, 2))
	const request = "POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nX-Y: z\r\n\r\n5\r\nhello\r\n0\r\nT: u\r\n\r\n"
	for _, target := range []string{addr, ep.Address} {
		for i := range 60 {
			b := []byte(request)
			if i%3 == 0 {
				b = make([]byte, random.IntN(4096))
				for k := range b {
					b[k] = byte(random.Uint32())
				}
			}
			for range i % 4 {
				if len(b) > 0 {
					b[random.IntN(len(b))] = byte(random.Uint32())
				}
			}
			c, err := net.Dial("tcp", target)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_, _ = c.Write(b)
			_ = c.(*net.TCPConn).CloseWrite()
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%q hangs", b)
			}
			_ = c.Close()
		}
	}
	if code, body := get(t, httpClient(t), "http://"+addr); code != 200 {
		t.Errorf("afterwards: %d %s", code, body)
	}
}
