package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
)

// unavailable waits until url is answered 503, and checks that it is never answered
// that there is no such service, and that nobody keeps the answer.
func (m *testMesh) unavailable(url string) {
	m.t.Helper()
	m.eventually(func() error {
		resp, err := http.Get(url) //nolint:gosec // of this test's own mesh
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		switch {
		case resp.StatusCode == http.StatusNotFound:
			m.t.Fatalf("%s is answered 404: %s", url, resp.Header.Get("Proxy-Status"))
		case resp.StatusCode != http.StatusServiceUnavailable:
			return fmt.Errorf("answered %s", resp.Status)
		case resp.Header.Get("Cache-Control") != "no-store":
			m.t.Errorf("a refusal may be kept: %v", resp.Header)
		}
		return nil
	})
}

func TestWhatRestartsIsUnavailableMeanwhileAndNotUnknown(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	west := m.gateway("west", "west-1")
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	t.Cleanup(program.Close)
	near := m.sidecar("east", "near-1", "shop/near", "http", program.Listener.Addr().String(), "")
	far := m.sidecar("west", "far-1", "shop/far", "http", program.Listener.Addr().String(), "")
	toNear := m.sidecar("east", "one", "shop/one", "http", "", "shop/near")
	toFar := m.sidecar("east", "two", "shop/two", "http", "", "shop/far")
	m.answers("http://"+toNear.listener+"/", "hello")
	m.answers("http://"+toFar.listener+"/", "hello")

	near.end(syscall.SIGTERM)
	m.unavailable("http://" + toNear.listener + "/")
	near.start()
	m.answers("http://"+toNear.listener+"/", "hello")

	far.end(syscall.SIGTERM)
	m.unavailable("http://" + toFar.listener + "/")
	far.start()
	m.answers("http://"+toFar.listener+"/", "hello")

	west.end(syscall.SIGTERM) // it says goodbye, and was the last that offered shop/far
	m.unavailable("http://" + toFar.listener + "/")
	west.start()
	m.answers("http://"+toFar.listener+"/", "hello")
}

func TestSIGHUPReloadsAGatewaysFile(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east")
	east := m.gateway("east", "east-1")
	m.settled(nil)
	file := m.path("east-1", "gateway.yaml")
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(content, verdict string) {
		t.Helper()
		m.write("east-1/gateway.yaml", content)
		if err := syscall.Kill(east.PID(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		m.eventually(func() error {
			s, err := east.status()
			if err != nil || s.Reload == nil || !strings.Contains(s.Reload.String(), verdict) {
				return fmt.Errorf("the last reload is %v, want %q (%w)", s.Reload, verdict, err)
			}
			return nil
		})
	}
	reload(string(was)+"limits: {paths: 100}\nlog: {level: debug}\n", "reloaded: limits.paths, log.level")
	reload(string(was)+"limits: {pahts: 100}\n", "the old configuration stays in force")
	reload(string(was)+"connections: 1\n", "wait for a restart: connections")
}
