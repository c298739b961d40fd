package admin

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func start(t *testing.T, ready *Readiness) string {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_test_total", Help: "A counter."}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{
		Listener: l, Readiness: ready, Metrics: reg, Log: slog.New(slog.DiscardHandler),
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
	return "http://" + l.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	c := http.Client{Timeout: 5 * time.Second}
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
		Listener: l, Readiness: &Readiness{}, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
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

func TestAdminServesLivenessMetricsStatusAndProfiles(t *testing.T) {
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
	if code, _ := get(t, base+"/debug/pprof/goroutine?debug=1"); code != 200 {
		t.Errorf("pprof = %d", code)
	}
	if code, _ := get(t, base+"/nonsense"); code != 404 {
		t.Errorf("unknown path = %d, want 404", code)
	}
}
