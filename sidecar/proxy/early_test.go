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

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// early is a program that answers early what goes to /early, and closes without
// having read the body; it serves everything else as it should.
func early(t *testing.T, answer string) string {
	return fakes(t, func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if r.URL.Path == "/early" {
				_, _ = io.WriteString(c, answer)
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
			addr := w.outbound(route(mesh.HTTP, w.instance("east", "orders-1", early(t, answer), mesh.HTTP)))
			c := httpClient(t)
			c.Transport.(*http.Transport).ExpectContinueTimeout = 20e9
			var failed atomic.Int64
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
			if failed.Load() > 0 {
				t.Errorf("%d of %d requests after an early answer failed", failed.Load(), n)
			}
		})
	}
}
