package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// crossing is less than what an answer and the next request take on their way through two
// sidecars: a close that comes later after an answer crosses that request, whatever the
// sidecar beside the program looks at.
const crossing = 300 * time.Microsecond

// early is a program that answers early what goes to /early, and closes without
// having read the body; it serves everything else as it should. late counts how often it
// was slower than crossing, because the machine does much else.
func early(t *testing.T, answer string, late *atomic.Int64) string {
	return fakes(t, func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if r.URL.Path == "/early" {
				began := time.Now()
				_, _ = io.WriteString(c, answer)
				_ = c.Close()
				if time.Since(began) > crossing {
					late.Add(1)
				}
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
}

func TestAnEarlyAnswerCostsTheNextRequestNothing(t *testing.T) {
	w := newWorld(t)
	for name, answer := range map[string]string{
		"413":         "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno\n",
		"413 chunked": "HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno\n\r\n0\r\n\r\n",
		"302":         "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
		"200":         "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n",
		"says close":  "HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno\n",
	} {
		t.Run(name, func(t *testing.T) {
			var failed, late atomic.Int64
			addr := w.outbound(route(mesh.HTTP, w.instance("east", "orders-1", early(t, answer, &late), mesh.HTTP)))
			c := httpClient(t)
			c.Transport.(*http.Transport).ExpectContinueTimeout = 20e9
			body := bytes.Repeat([]byte("x"), 300<<10)
			const n = 150
			for i := range n {
				length := int64(len(body))
				req, _ := http.NewRequest("POST", "http://"+addr+"/early", struct{ io.Reader }{bytes.NewReader(body)})
				switch i % 3 {
				case 1:
					length = -1
				case 2:
					req.Header.Set("Expect", "100-continue")
				}
				req.ContentLength = length
				if resp, err := c.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				resp, err := c.Post("http://"+addr+"/", "a/b", strings.NewReader("order"))
				if err != nil {
					failed.Add(1)
					t.Log(err)
					continue
				}
				said, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 {
					failed.Add(1)
					t.Logf("%d %s", resp.StatusCode, said)
				}
			}
			excused := int64(0)
			if name == "302" || name == "200" { // after a refusal the connection is not used again at all
				excused = late.Load()
			}
			if failed.Load() > excused {
				t.Errorf("%d of %d requests after an early answer failed, the program closed late after %d", failed.Load(), n, late.Load())
			}
		})
	}
}
