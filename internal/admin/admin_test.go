package admin

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// start starts a server and returns the URL of its admin port.
func start(t *testing.T, ready *Readiness) string {
	t.Helper()
	admin, _, _ := startAll(t, ready)
	return admin
}

// startAll starts a server and returns the URLs of its ports.
func startAll(t *testing.T, ready *Readiness) (admin, metrics, profiles string) {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_test_total", Help: "A counter."}))
	const anyPort = "127.0.0.1:0"
	ports, err := Bind(net.Listen, anyPort, anyPort, anyPort)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{
		Ports: ports, Readiness: ready, Metrics: reg, Log: slog.New(slog.DiscardHandler),
		Status: func() any { return map[string]string{"self": "east/east-1"} },
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	url := func(l net.Listener) string { return "http://" + l.Addr().String() }
	return url(ports.Admin), url(ports.Metrics), url(ports.Profiles)
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	c := http.Client{Timeout: time.Minute}
	defer c.CloseIdleConnections()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestReadyzListsTheConditionsThatDoNotHoldWithTheirReasons(t *testing.T) {
	var r Readiness
	joined, listed := r.Condition("join", "nobody met"), r.Condition("catalog", "not read")
	base := start(t, &r)
	if code, body := get(t, base+"/readyz"); code != 503 || !strings.Contains(body, "join: nobody met\ncatalog: not read\n") {
		t.Errorf("readyz = %d %q, want 503 that lists join, catalog", code, body)
	}
	joined.Met()
	if code, body := get(t, base+"/readyz"); code != 503 || strings.Contains(body, "join") {
		t.Errorf("readyz = %d %q, want 503 with catalog only", code, body)
	}
	listed.Met()
	if code, _ := get(t, base+"/readyz"); code != 200 {
		t.Errorf("readyz = %d, want 200", code)
	}
}

func TestStartzIsReadyzWhereThereIsNothingElseToStart(t *testing.T) {
	var r Readiness
	joined := r.Condition("join", "nobody met")
	base := start(t, &r)
	if code, body := get(t, base+"/startz"); code != 503 || body != "not started:\njoin: nobody met\n" {
		t.Errorf("startz = %d %q", code, body)
	}
	joined.Met()
	if code, _ := get(t, base+"/startz"); code != 200 {
		t.Errorf("startz = %d, want 200", code)
	}
}

func TestAConditionThatHeldMayCeaseToAndLivezDoesNotMind(t *testing.T) {
	var r Readiness
	gateways, expired := r.Condition("gateways", "none asked yet"), ""
	r.Require("certificate", func() string { return expired })
	gateways.Met()
	base := start(t, &r)
	if code, _ := get(t, base+"/readyz"); code != 200 {
		t.Errorf("readyz = %d, want 200", code)
	}
	gateways.Set("none answers")
	expired = "ended 2026-11-26"
	if code, body := get(t, base+"/readyz"); code != 503 || body != "not ready:\ngateways: none answers\ncertificate: ended 2026-11-26\n" {
		t.Errorf("readyz = %d %q", code, body)
	}
	if code, _ := get(t, base+"/livez"); code != 200 {
		t.Errorf("livez = %d, want 200", code)
	}
	gateways.Met()
	expired = ""
	if code, _ := get(t, base+"/readyz"); code != 200 {
		t.Errorf("readyz = %d, want 200", code)
	}
}

func TestAnAnswerThatIsBeingMadeOutlivesTheEndAndRunOutlivesIt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked, answered := make(chan struct{}), false
	s := New(Config{
		Ports: Ports{Admin: l}, Readiness: &Readiness{}, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		Status: func() any {
			close(asked)
			time.Sleep(closeTimeout / 5)
			answered = true
			return "late"
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	got := make(chan int, 1)
	go func() {
		code, _ := get(t, "http://"+l.Addr().String()+"/status")
		got <- code
	}()
	<-asked
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !answered {
		t.Error("Run returned before the answer was made")
	}
	if code := <-got; code != http.StatusOK {
		t.Errorf("answer %d", code)
	}
}

func TestEveryProcessSaysWhichBuildItIs(t *testing.T) {
	families, err := NewRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "isthmus_build_info" {
			labels := map[string]string{}
			for _, l := range f.Metric[0].Label {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["version"] == "" || !strings.HasPrefix(labels["goversion"], "go1.") || f.Metric[0].Gauge.GetValue() != 1 {
				t.Errorf("%v", f)
			}
			return
		}
	}
	t.Error("there is no isthmus_build_info")
}

func TestAdminServesLivenessMetricsAndStatus(t *testing.T) {
	base := start(t, &Readiness{})
	if code, _ := get(t, base+"/livez"); code != 200 {
		t.Errorf("livez = %d", code)
	}
	if _, body := get(t, base+"/metrics"); !strings.Contains(body, "isthmus_test_total 0") {
		t.Errorf("metrics lack the counter: %q", body)
	}
	_, body := get(t, base+"/status")
	var v map[string]string
	if err := json.Unmarshal([]byte(body), &v); err != nil || v["self"] != "east/east-1" {
		t.Errorf("status = %q, %v", body, err)
	}
	if code, _ := get(t, base+"/nonsense"); code != 404 {
		t.Errorf("unknown path = %d, want 404", code)
	}
}

func TestProfilesAreServedOnTheirOwnPortOnly(t *testing.T) {
	admin, metrics, profiles := startAll(t, &Readiness{})
	const page = "/debug/pprof/goroutine?debug=1"
	for url, want := range map[string]int{admin: 404, metrics: 404, profiles: 200} {
		if code, _ := get(t, url+page); code != want {
			t.Errorf("%s: %d, want %d", url, code, want)
		}
	}
}

func TestThePortForOtherHostsHasNoStatusAndChangesNothing(t *testing.T) {
	_, metrics, _ := startAll(t, &Readiness{})
	for page, want := range map[string]int{"/metrics": 200, "/livez": 200, "/readyz": 200, "/status": 404, "/reload": 404, "/forget": 404} {
		if code, _ := get(t, metrics+page); code != want {
			t.Errorf("%s: %d, want %d", page, code, want)
		}
	}
}

func TestAPageOfAnotherSiteInABrowserHereGetsNothing(t *testing.T) {
	base := start(t, &Readiness{})
	ask := func(method, path, host string, header ...string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		c := http.Client{Timeout: time.Minute}
		defer c.CloseIdleConnections()
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1:15000", "127.0.0.1", "[::1]:15000", "[::1]", "localhost:15000", "LOCALHOST", "localhost.:1", own, own + ":15000"} {
		if code := ask("GET", "/livez", host); code != 200 {
			t.Errorf("Host %s: %d, want 200", host, code)
		}
	}
	for _, host := range []string{"rebound.example:15000", "localhost.example", "127.0.0.1.example:15000", "a:b:c"} {
		if code := ask("GET", "/status", host); code != http.StatusMisdirectedRequest {
			t.Errorf("Host %s: %d, want 421", host, code)
		}
	}
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://elsewhere.example"}} {
		if code := ask("POST", "/reload", "localhost", header...); code != http.StatusForbidden {
			t.Errorf("POST with %v: %d, want 403", header, code)
		}
	}
}
