package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

// backend is the destination of a backend of rules.
func backend(name string) mesh.Destination {
	return mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: name}, Port: 80}
}

// ruled is a sidecar with a listener for dest, whose rules lead to backends by name.
func (w *world) ruled(rules []mesh.Rule, backends map[string]http.Handler) string {
	w.t.Helper()
	own := route(mesh.HTTP, plainAt("own", w.program(says("own"))))
	own.Rules = rules
	all := []*mesh.Route{own}
	for name, h := range backends {
		all = append(all, &mesh.Route{Destination: backend(name), Protocol: mesh.HTTP, Local: []mesh.Endpoint{plainAt(name, w.program(h))}})
	}
	return "http://" + w.routed(all)
}

// routed is a sidecar with a listener for dest and these routes; it returns the listener's
// address.
func (w *world) routed(all []*mesh.Route) string {
	w.t.Helper()
	set := upstream.New(upstream.Config{Identity: w.caller, Cluster: "east"})
	store := routes.NewStore(set.Update, nil)
	store.Replace(all, []mesh.Destination{backend("absent")})
	w.t.Cleanup(set.Close)
	p, err := New(Config{Identity: w.caller, Routes: store, Upstreams: set, Log: w.log,
		Explicit: []Explicit{{Listen: "127.0.0.1:0", Destination: dest}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return explicitAddr(w.run(p)).String()
}

// says answers with a name and what was asked.
func says(name string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-Was", name)
		_, _ = fmt.Fprintf(rw, "%s %s %s %s", name, r.Method, r.Host, r.RequestURI)
	})
}

func prefix(path string) mesh.Match {
	return mesh.Match{Path: mesh.PathMatch{Kind: mesh.Prefix, Value: path}}
}

func to(names ...string) (all []mesh.Backend) {
	for _, name := range names {
		b := mesh.Backend{Weight: 1}
		switch name {
		case "":
		case "own":
			b.Destination = dest
		default:
			b.Destination = backend(name)
		}
		all = append(all, b)
	}
	return all
}

func TestRulesSayWhereRequestsGoAndWhatIsChanged(t *testing.T) {
	w := newWorld(t)
	addr := w.ruled([]mesh.Rule{
		{Name: "v1", Match: prefix("/v1"), Action: mesh.Action{Backends: to("v1"),
			Rewrite: mesh.Rewrite{Host: "other.example", Path: mesh.PathRewrite{Kind: mesh.ReplacePrefix, Value: "/"}}}},
		{Name: "headers", Match: prefix("/headers"), Action: mesh.Action{Backends: to("headers"),
			Request:  mesh.Fields{Set: []mesh.Field{{Name: "x-set", Value: "new"}}, Add: []mesh.Field{{Name: "x-add", Value: "more"}}, Remove: []string{"x-remove"}},
			Response: mesh.Fields{Set: []mesh.Field{{Name: "x-was", Value: "changed"}}, Add: []mesh.Field{{Name: "x-more", Value: "1"}}}}},
		{Name: "invalid", Match: prefix("/invalid"), Action: mesh.Action{Backends: to("")}},
		{Name: "none", Match: prefix("/none")},
		{Name: "absent", Match: prefix("/absent"), Action: mesh.Action{Backends: to("absent")}},
		{Name: "own", Match: prefix("/own"), Action: mesh.Action{Backends: to("own")}},
		{Name: "elsewhere", Match: prefix("/old"), Action: mesh.Action{Redirect: &mesh.Redirect{Host: "new.example", Status: 301, Path: mesh.PathRewrite{Kind: mesh.ReplacePrefix, Value: "/new"}}}},
		{Name: "secure", Match: prefix("/secure"), Action: mesh.Action{Redirect: &mesh.Redirect{Scheme: "https", Status: 302}}},
	}, map[string]http.Handler{"v1": says("v1"), "headers": http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header()["X-Was"] = []string{"program", "twice"}
		_, _ = fmt.Fprint(rw, r.Header["X-Set"], r.Header["X-Add"], r.Header["X-Remove"])
	})})
	c := httpClient(t)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for path, want := range map[string]struct {
		code           int
		body, location string
	}{
		"/v1/a?b=c":  {200, "v1 GET other.example /a?b=c", ""},
		"/v1":        {200, "v1 GET other.example /", ""},
		"/v12":       {404, "", ""},
		"/headers":   {200, "[new] [a more] []", ""},
		"/invalid":   {500, "", ""},
		"/none":      {500, "", ""},
		"/absent":    {404, "", ""},
		"/own/x":     {200, "own GET", ""},
		"/":          {404, "", ""},
		"/old/x?y=z": {301, "", "http://new.example/new/x?y=z"},
		"/secure/x":  {302, "", "https://" + dest.Host() + "/secure/x"},
	} {
		r, _ := http.NewRequest("GET", addr+path, nil)
		r.Header = http.Header{"X-Set": {"old", "older"}, "X-Add": {"a"}, "X-Remove": {"b"}}
		if strings.HasPrefix(path, "/secure") {
			r.Host = dest.Host() + ":80"
		}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want.code || !strings.HasPrefix(string(b), want.body) || resp.Header.Get("Location") != want.location {
			t.Errorf("%s: %d %q %q, want %+v", path, resp.StatusCode, b, resp.Header.Get("Location"), want)
		}
		if path == "/headers" && (fmt.Sprint(resp.Header["X-Was"]) != "[changed]" || resp.Header.Get("X-More") != "1") {
			t.Errorf("the answer's fields are %v", resp.Header)
		}
		if want.location != "" && resp.Header.Get("Proxy-Status") != "" {
			t.Errorf("a redirect is called an error: %s", resp.Header.Get("Proxy-Status"))
		}
	}
}

func TestBackendsAreChosenByWeight(t *testing.T) {
	w := newWorld(t)
	backends := to("v1", "v2")
	backends[1].Weight = 9
	addr := w.ruled([]mesh.Rule{{Name: "split", Match: prefix("/"), Action: mesh.Action{Backends: backends}}}, map[string]http.Handler{"v1": says("v1"), "v2": says("v2")})
	c, counts := httpClient(t), map[string]int{}
	for range 500 {
		_, body := get(t, c, addr)
		counts[body[:2]]++
	}
	if counts["v1"] < 15 || counts["v1"] > 120 || counts["v1"]+counts["v2"] != 500 { // 50 expected, 5 to 10 standard deviations
		t.Errorf("of 500 requests %v", counts)
	}
}

func TestARulesTimeoutsEndARequest(t *testing.T) {
	w := newWorld(t)
	silent := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	addr := w.ruled([]mesh.Rule{
		{Name: "whole", Match: prefix("/whole"), Action: mesh.Action{Backends: to("silent"), Timeout: 50 * time.Millisecond}},
		{Name: "each", Match: prefix("/each"), Action: mesh.Action{Backends: to("silent"), Timeout: time.Hour, BackendTimeout: 50 * time.Millisecond}},
	}, map[string]http.Handler{"silent": silent})
	c := httpClient(t)
	for _, path := range []string{"/whole", "/each"} {
		if code, body := get(t, c, addr+path); code != 504 || !strings.Contains(body, "see the timeouts of "+path[1:]) {
			t.Errorf("%s: %d %q", path, code, body)
		}
		resp, err := c.Post(addr+path, "text/plain", strings.NewReader(strings.Repeat("x", 100<<10)))
		if err != nil || resp.StatusCode != 504 {
			t.Errorf("POST %s: %v %v", path, resp, err)
		}
		if err == nil {
			_ = resp.Body.Close()
		}
	}
}

func TestAMirrorGetsACopyAndItsAnswerGoesNowhere(t *testing.T) {
	w := newWorld(t)
	type copied struct{ text, header string }
	copies := make(chan copied, 10)
	mirror := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		copies <- copied{fmt.Sprintf("%s %s %d", r.Method, r.URL, len(b)), r.Header.Get("X-Set")}
		rw.WriteHeader(500)
	})
	addr := w.ruled([]mesh.Rule{{Name: "mirrored", Match: prefix("/"), Action: mesh.Action{Backends: to("v1"), Mirrors: []mesh.Mirror{{Destination: backend("mirror"), PerMillion: 1_000_000}},
		Request: mesh.Fields{Set: []mesh.Field{{Name: "x-set", Value: "1"}}}}}},
		map[string]http.Handler{"mirror": mirror, "v1": http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(rw, "v1 %d", len(b))
		})})
	c := httpClient(t)
	for _, size := range []int{0, 10, 20 << 10} {
		resp, err := c.Post(addr+"/a", "text/plain", bytes.NewReader(make([]byte, size)))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 200 || string(b) != fmt.Sprintf("v1 %d", size) {
			t.Errorf("%d: %d %q", size, resp.StatusCode, b)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		select {
		case got := <-copies:
			if want := (copied{fmt.Sprintf("POST /a %d", size), "1"}); got != want {
				t.Errorf("the mirror got %v, want %v", got, want)
			}
		case <-ctx.Done():
			t.Errorf("%d: nothing came at the mirror", size)
		}
		cancel()
	}
}

// grpcRules are rules for calls with their backends, each a program.
func grpcRules(rules []mesh.Rule, backends map[string]string) []*mesh.Route {
	own := route(mesh.GRPC)
	own.Rules = rules
	all := []*mesh.Route{own}
	for name, addr := range backends {
		all = append(all, &mesh.Route{Destination: backend(name), Protocol: mesh.GRPC, Local: []mesh.Endpoint{plainAt(name, addr)}})
	}
	return all
}

func callOf(service, method string) mesh.Match {
	return mesh.Match{GRPC: true, Path: mesh.PathMatch{Kind: mesh.Exact, Value: "/" + service + "/" + method}}
}

func TestRulesOfCallsAnswerWithStatuses(t *testing.T) {
	const health = "grpc.health.v1.Health"
	w := newWorld(t)
	_, v1 := newCalls(t, "v1")
	_, v2 := newCalls(t, "v2")
	backends := map[string]string{"v1": v1, "v2": v2}
	second := callOf(health, "Check")
	second.Headers = []mesh.ValueMatch{{Name: "version", Kind: mesh.Exact, Value: "2"}}
	c := caller(t, w.routed(grpcRules([]mesh.Rule{
		{Name: "v2", Match: second, Action: mesh.Action{Backends: to("v2")}},
		{Name: "v1", Match: callOf(health, "Check"), Action: mesh.Action{Backends: to("v1")}},
	}, backends)))
	if name, err := check(t, c, ""); err != nil || name != "v1" {
		t.Errorf("%q %v, want v1", name, err)
	}
	var trailer metadata.MD
	if _, err := c.Check(metadata.AppendToOutgoingContext(within(t), "version", "2"), &grpc_health_v1.HealthCheckRequest{}, grpc.Trailer(&trailer)); err != nil || fmt.Sprint(trailer.Get("name")) != "[v2]" {
		t.Errorf("%v %v, want v2", trailer, err)
	}
	stream, err := c.Watch(within(t), &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("what no rule matches: %v", err)
	}
	for name, rule := range map[string]mesh.Rule{
		"a backend that is not there": {Name: "x", Match: callOf(health, "Check"), Action: mesh.Action{Backends: to("")}},
		"no backend":                  {Name: "x", Match: callOf(health, "Check")},
	} {
		if _, err := check(t, caller(t, w.routed(grpcRules([]mesh.Rule{rule}, backends))), ""); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}
