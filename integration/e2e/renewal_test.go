package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// shortLife is the life of a certificate in the test below: two renewals, and the end of
// the first certificate, come within little more than it.
const shortLife = 20 * time.Second

func TestCertificatesOfSecondsAreRenewedUnderLoadWithoutALostRequestOrStream(t *testing.T) {
	t.Parallel()
	// The program of shop/orders and shop/legacy: /stream is an answer that goes on.
	over := make(chan struct{})
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			fmt.Fprintln(w, "ok")
			return
		}
		for tick := time.NewTicker(200 * time.Millisecond); ; {
			fmt.Fprintln(w, "more")
			w.(http.Flusher).Flush()
			select {
			case <-tick.C:
			case <-over:
				fmt.Fprintln(w, "all")
				return
			}
		}
	}))
	defer program.Close()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	target := strings.TrimPrefix(program.URL, "http://")

	m := newMesh(t, "east", "west")
	for _, c := range []string{"east", "west"} {
		m.issuer(c, shortLife)
	}
	m.gateway("east", "east-1")
	west := m.gateway("west", "west-1")
	west.service(t, "shop/legacy", "http", target)
	sidecars := []*sidecarProc{
		m.sidecar("west", "orders", "shop/orders", "http", target, ""),
		m.sidecar("west", "echo", "shop/echo", "tcp", echo.Addr().String(), ""),
		m.sidecar("east", "web", "shop/web", "http", "", "shop/orders"),
		m.sidecar("east", "old", "shop/old", "http", "", "shop/legacy"),
		m.sidecar("east", "talk", "shop/talk", "tcp", "", "shop/echo"),
	}
	web, old, talk := sidecars[2], sidecars[3], sidecars[4]
	everything := map[string]uint32{"west shop/orders": 1, "west shop/echo": 1, "west shop/legacy": 1}
	m.settled(everything)
	m.answers("http://"+web.listener+"/", "ok")
	m.answers("http://"+old.listener+"/", "ok")

	var first map[string]time.Time
	m.eventually(func() (err error) {
		first, err = m.certificates(sidecars)
		return err
	})
	var load sync.WaitGroup
	defer load.Wait()
	stop := sync.OnceFunc(func() { close(over) })
	defer stop()

	// Requests, one after the other, and answers that go on.
	var requests atomic.Int64
	for _, s := range []*sidecarProc{web, old} {
		load.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(20 * time.Millisecond):
				}
				requests.Add(1)
				if code, body, err := get("http://" + s.listener + "/"); err != nil || code != http.StatusOK {
					t.Errorf("a request: %d %q, %v", code, body, err)
				}
			}
		})
		load.Go(func() {
			resp, err := http.Get("http://" + s.listener + "/stream")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(b), "all\n") {
				t.Errorf("an answer that went on ended with %v after %d bytes", err, len(b))
			}
		})
	}
	// A TCP connection on which nobody but the other end speaks.
	conn, err := net.Dial("tcp", talk.listener)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	said := bufio.NewReader(conn)
	say := func() {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(limit))
		fmt.Fprintln(conn, "still here")
		if got, err := said.ReadString('\n'); err != nil || got != "still here\n" {
			t.Fatalf("the TCP connection: %q, %v", got, err)
		}
	}
	say()

	var last time.Time // of the first certificates to end
	for _, end := range first {
		if end.After(last) {
			last = end
		}
	}
	m.eventually(func() error {
		now, err := m.certificates(sidecars)
		if err != nil {
			return err
		}
		for name, end := range first {
			if now[name].Sub(end) < shortLife/2 {
				return fmt.Errorf("%s has one until %s, the first one's end was %s", name, now[name], end)
			}
		}
		if left := time.Until(last.Add(3 * time.Second)); left > 0 {
			return fmt.Errorf("the first certificates end in %s", left)
		}
		return nil
	})
	say()
	stop()
	load.Wait()
	t.Logf("%d requests", requests.Load())
	m.settled(everything)
	for _, g := range m.gateways {
		m.lostNothing(g.name)
	}
	for _, s := range sidecars {
		m.lostNothing(s.Name)
	}
}

// certificates returns until when that of each process is valid.
func (m *testMesh) certificates(sidecars []*sidecarProc) (map[string]time.Time, error) {
	m.t.Helper()
	ends := map[string]time.Time{}
	var failed error // a machine that does much else may not answer in time
	ask := func(name, admin string) {
		a, err := status.Ask(m.t.Context(), admin)
		switch {
		case err != nil:
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
		case a.Gateway != nil:
			ends[name] = a.Gateway.Certificate.NotAfter
		case a.Sidecar != nil:
			ends[name] = a.Sidecar.Certificate.NotAfter
		}
	}
	for _, g := range m.gateways {
		ask(g.name, g.admin)
	}
	for _, s := range sidecars {
		ask(s.Name, s.admin)
	}
	return ends, failed
}

// lostNothing checks that a process's log tells of no connection that a certificate ended.
func (m *testMesh) lostNothing(process string) {
	m.t.Helper()
	b, err := os.ReadFile(m.path(process + ".log"))
	if err != nil {
		m.t.Error(err)
	}
	for line := range strings.Lines(string(b)) {
		for _, bad := range []string{"trusted no more", "not trusted any more", "certificate expired", "expires soon", "no newer identity"} {
			if strings.Contains(line, bad) {
				m.t.Errorf("%s: %s", process, line)
			}
		}
	}
}

func TestAProcessWaitsForItsCAAndSaysSo(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east")
	ca := m.issuer("east", time.Hour)
	ca.end(syscall.SIGINT)
	g := m.gateway("east", "east-1")
	m.eventually(func() error {
		a, err := status.Ask(t.Context(), g.admin)
		if err != nil {
			return err
		}
		if a.Waiting == nil || !strings.Contains(a.Waiting.Verdict(), "gateway east/east-1, not ready: certificate (none yet: CA 127.0.0.1:") {
			return fmt.Errorf("status %+v", a)
		}
		return nil
	})
	out, err := harness.Isthmus(binary, "status", "--admin", g.admin)
	if err == nil || !strings.Contains(out+err.Error(), "gateway east/east-1, not ready: certificate") {
		t.Errorf("isthmus status: %q, %v", out, err)
	}
	ca.start()
	m.settled(nil)
	g.end(syscall.SIGINT)
	ca.end(syscall.SIGINT)
	g.start() // neither token nor CA is needed
	m.settled(nil)
}
