package probes

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/isthmus-mesh/isthmus/internal/config"
)

func port(a net.Addr) uint16 { return uint16(a.(*net.TCPAddr).Port) }

// sidecar answers for these probes.
func sidecar(t *testing.T, all ...config.Probe) string {
	t.Helper()
	s := httptest.NewServer(New(all, nil))
	t.Cleanup(s.Close)
	return s.URL + config.ProbesPath
}

// asks is what the kubelet hears.
func asks(t *testing.T, url string, change func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b := new(strings.Builder)
	if err := answer.Write(b); err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, b.String()
}

func TestAProgramIsAskedAsTheKubeletWouldAndItsStatusIsTheAnswer(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	program := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, fmt.Sprintf("%s %s %s %s %s", r.Method, r.Host, r.RequestURI, r.Header.Get("X-Key"), r.Header.Get("User-Agent")))
		mu.Unlock()
		switch r.URL.Path {
		case "/ill":
			http.Error(w, "secret", http.StatusInternalServerError)
		case "/moved":
			http.Redirect(w, r, "/live", http.StatusFound)
		case "/away":
			http.Redirect(w, r, "http://192.0.2.7/", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		}
	}
	plain, secure := httptest.NewServer(http.HandlerFunc(program)), httptest.NewTLSServer(http.HandlerFunc(program))
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	at := func(name string, scheme config.ProbeScheme, s *httptest.Server, path string) config.Probe {
		return config.Probe{Name: "web/" + name, Scheme: scheme, Port: port(s.Listener.Addr()), Path: path}
	}
	base := sidecar(t,
		at("live", config.ProbeHTTP, plain, "/live?deep=1,2"), at("tls", config.ProbeHTTPS, secure, "/live"), at("ill", config.ProbeHTTP, plain, "/ill"),
		at("moved", config.ProbeHTTP, plain, "/moved"), at("away", config.ProbeHTTP, plain, "/away"), at("round", config.ProbeHTTP, plain, "/round"))
	for name, want := range map[string]int{"live": 200, "tls": 200, "ill": 500, "moved": 200, "away": 200, "round": 503} {
		code, answer := asks(t, base+"web/"+name, func(r *http.Request) {
			r.Header.Set("X-Key", "k")
			r.Header.Set("User-Agent", "kube-probe/1.37")
		})
		if code != want || strings.Contains(answer, "secret") {
			t.Errorf("%s: %d, want %d: %s", name, code, want, answer)
		}
	}
	mu.Lock()
	if want := "GET " + plain.Listener.Addr().String() + " /live?deep=1,2 k kube-probe/1.37"; !strings.Contains(strings.Join(seen, "\n"), want) {
		t.Errorf("the program saw %q, want %q", seen, want)
	}
	seen = nil
	mu.Unlock()
	asks(t, base+"web/live", func(r *http.Request) { r.Host = "web.example" })
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 1 || !strings.HasPrefix(seen[0], "GET web.example /live?deep=1,2") {
		t.Errorf("with a host of its own the program saw %q", seen)
	}
}

func TestOnlyWhatIsConfiguredIsAsked(t *testing.T) {
	program := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the program was asked") }))
	t.Cleanup(program.Close)
	base := sidecar(t, config.Probe{Name: "web/livenessProbe", Scheme: config.ProbeHTTP, Port: port(program.Listener.Addr()), Path: "/"})
	for _, path := range []string{"web/readinessProbe", "web/livenessProbe/x", "", "web/livenessProbe%2F.."} {
		if code, _ := asks(t, base+path, nil); code != http.StatusNotFound {
			t.Errorf("%q: %d", path, code)
		}
	}
	if New(nil, nil) != nil {
		t.Error("there is a page without probes")
	}
}

func TestConnectionsAndGRPCHealthAreAskedFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, healthy := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, healthy)
	healthy.SetServingStatus("shop.Ill", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	gone, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	at := port(l.Addr())
	base := sidecar(t,
		config.Probe{Name: "db/tcp", Scheme: config.ProbeTCP, Port: at}, config.Probe{Name: "db/gone", Scheme: config.ProbeTCP, Port: port(gone.Addr())},
		config.Probe{Name: "db/grpc", Scheme: config.ProbeGRPC, Port: at}, config.Probe{Name: "db/ill", Scheme: config.ProbeGRPC, Port: at, Path: "shop.Ill"})
	for name, want := range map[string]int{"tcp": 200, "gone": 503, "grpc": 200, "ill": 503} {
		if code, answer := asks(t, base+"db/"+name, nil); code != want {
			t.Errorf("%s: %d, want %d: %s", name, code, want, answer)
		}
	}
}
