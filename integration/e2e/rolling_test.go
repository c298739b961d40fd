package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// load posts to a URL until it is stopped, a number of callers at a time.
type load struct {
	t        *testing.T
	stopped  atomic.Bool
	running  sync.WaitGroup
	requests atomic.Int64
	failed   atomic.Int64
	client   *http.Client

	mu  sync.Mutex
	why map[string]int
}

// posts starts callers that each post one request after the other to url.
func posts(t *testing.T, url string, callers int) *load {
	t.Helper()
	return requests(t, http.MethodPost, url, callers)
}

// requests is posts with another method.
func requests(t *testing.T, method, url string, callers int) *load {
	t.Helper()
	l := &load{t: t, why: map[string]int{}, client: &http.Client{
		Timeout: limit, Transport: &http.Transport{MaxIdleConnsPerHost: callers},
	}}
	for range callers {
		l.running.Go(func() {
			for !l.stopped.Load() {
				l.requests.Add(1)
				if err := l.call(method, url); err != nil {
					l.failed.Add(1)
					l.mu.Lock()
					l.why[err.Error()]++
					l.mu.Unlock()
				}
			}
		})
	}
	return l
}

func (l *load) call(method, url string) error {
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("order")
	}
	req, err := http.NewRequestWithContext(context.Background(), method, url, body)
	if err != nil {
		return err
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s %s", resp.Status, resp.Header.Get("Proxy-Status"), answer)
	}
	return nil
}

// end stops the load; none of its requests may have failed, but for a reason that
// begins with allowed.
func (l *load) end(allowed ...string) {
	l.t.Helper()
	l.stopped.Store(true)
	l.running.Wait()
	l.client.CloseIdleConnections()
	l.t.Logf("%d requests, %d failed", l.requests.Load(), l.failed.Load())
	for why, n := range l.why {
		if slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(why, a) }) {
			l.t.Logf("%d times: %s", n, why)
			continue
		}
		l.t.Errorf("%d times: %s", n, why)
	}
}

// serves waits until url is answered.
func (m *testMesh) serves(url string) {
	m.t.Helper()
	m.eventually(func() error {
		code, body, err := get(url)
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d %s", code, body)
		}
		return err
	})
}

// stop ends p as an operator does: within half of its drain time, since what is in
// flight takes much less.
func (p *proc) stop() {
	p.t.Helper()
	begun := time.Now()
	p.end(syscall.SIGTERM)
	took := time.Since(begun).Round(10 * time.Millisecond)
	p.t.Logf("%s stopped within %v", p.Name, took)
	if took > drainTime/2 {
		p.t.Errorf("%s took %v to stop", p.Name, took)
	}
}

// drainTime is the drain of the configurations here: its default.
const drainTime = 10 * time.Second

func TestARollingRestartOfEveryGatewayFailsNoPost(t *testing.T) {
	m := newMesh(t, "east", "west")
	for _, name := range []string{"east-1", "west-1", "east-2", "west-2"} {
		m.gateway(name[:4], name)
	}
	for i := range 2 {
		m.replica("west", fmt.Sprintf("orders-%d", i+1), replyDelay)
	}
	caller := m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/orders")
	want := map[string]uint32{"west shop/orders": 2}
	m.settled(want)
	url := "http://" + caller.listener + "/"
	m.serves(url)

	l := posts(t, url, 50)
	for _, g := range m.gateways {
		g.stop()
		g.start()
		m.settled(want)
	}
	l.end()
}

func TestARestartOfAnOnlyGatewayCutsNoRequestInFlight(t *testing.T) {
	m := newMesh(t, "east", "west")
	m.gateway("west", "west-1")
	m.gateway("east", "east-1")
	m.replica("west", "orders-1", replyDelay)
	caller := m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/orders")
	want := map[string]uint32{"west shop/orders": 1}
	m.settled(want)
	url := "http://" + caller.listener + "/"
	m.serves(url)

	l := posts(t, url, 50)
	for _, g := range m.gateways {
		g.stop()
		g.start()
		m.settled(want)
	}
	m.serves(url)
	// Nobody could be asked meanwhile, and nobody was: a connection that waited to be
	// accepted when its gateway went is reset by the kernel, later ones are refused.
	l.end("503", "502 Bad Gateway isthmus-outbound; error=connection_refused",
		`502 Bad Gateway isthmus-outbound; error=destination_unavailable; details="no connection to a gateway`)
}

func TestARollingRestartOfTheFarProgramsFailsNoPost(t *testing.T) {
	for name, cluster := range map[string]string{"direct": "east", "through gateways": "west"} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, "east", "west")
			m.gateway("east", "east-1")
			m.gateway("west", "west-1")
			replicas := []*sidecarProc{m.replica(cluster, "orders-1", replyDelay), m.replica(cluster, "orders-2", replyDelay)}
			caller := m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/orders")
			want := map[string]uint32{cluster + " shop/orders": 2}
			m.settled(want)
			url := "http://" + caller.listener + "/"
			m.serves(url)

			l := posts(t, url, 50)
			for _, r := range replicas {
				r.stop()
				m.settled(map[string]uint32{cluster + " shop/orders": 1})
				r.start()
				m.settled(want)
			}
			l.end()
		})
	}
}

// replica starts a sidecar of shop/orders whose program names it after a while.
func (m *testMesh) replica(cluster, name string, delay time.Duration) *sidecarProc {
	m.t.Helper()
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(delay)
		_, _ = io.WriteString(w, name)
	}))
	m.t.Cleanup(program.Close)
	return m.sidecar(cluster, name, "shop/orders", "http", program.Listener.Addr().String(), "")
}

// replyDelay is how long a request is in flight.
const replyDelay = 300 * time.Millisecond
