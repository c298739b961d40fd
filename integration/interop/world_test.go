package interop

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/proxy"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

const limit = time.Minute

// authorities are those of a mesh of one cluster.
type authorities struct {
	t       *testing.T
	root    *identity.Authority
	cluster *identity.Authority
}

func newAuthorities(t *testing.T) *authorities {
	t.Helper()
	root, err := identity.NewRoot("mesh.example", 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	east, err := root.NewCluster("east", nil, 12*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &authorities{t, root, east}
}

// workload returns an identity that has its name in Istio, too.
func (a *authorities) workload(account string) *identity.Source {
	a.t.Helper()
	c, err := a.cluster.Issue(identity.Request{ID: identity.ID{Namespace: "shop", ServiceAccount: account}, Istio: true})
	if err != nil {
		a.t.Fatal(err)
	}
	s, err := c.Source()
	if err != nil {
		a.t.Fatal(err)
	}
	return s
}

// run runs a proxy until the test ends. within has it listen elsewhere.
func run(t *testing.T, cfg proxy.Config, within func(func() error) error) {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := proxy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- within(func() error { return p.Run(context.Background()) }) }()
	select {
	case <-p.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = p.Shutdown(ctx) // what the peer keeps open is cut
		<-ended
	})
}

// atHome listens where the test is.
func atHome(f func() error) error { return f() }

// served are a TCP and an HTTP service with programs beside, as a sidecar serves them.
func served(t *testing.T, echo, web string) []proxy.Served {
	return []proxy.Served{
		{Service: mesh.ServiceName{Namespace: "shop", Name: "echo"}, Port: 7, Target: echo, Protocol: mesh.TCP},
		{Service: mesh.ServiceName{Namespace: "shop", Name: "web"}, Port: 80, Target: web, Protocol: mesh.HTTP},
	}
}

// calling are listeners for the two services, whose endpoint is at address. Both are tcp: who
// speaks HBONE only takes connections and no requests, so that HTTP goes as its bytes.
func calling(t *testing.T, id *identity.Source, identities []string, address, echo, web string, dial func(ctx context.Context, network, addr string) (net.Conn, error)) proxy.Config {
	t.Helper()
	set := upstream.New(upstream.Config{Identity: id, Cluster: "east", Dial: dial})
	t.Cleanup(set.Close)
	store := routes.NewStore(set.Update, nil)
	var all []*mesh.Route
	for _, s := range served(t, "", "") {
		all = append(all, &mesh.Route{
			Destination: mesh.Destination{Service: s.Service, Port: s.Port}, Protocol: mesh.TCP, Identities: identities,
			Local: []mesh.Endpoint{{Instance: "one", Address: address, Ready: true, Weight: 1, Identity: identities[0]}},
		})
	}
	store.Replace(all, nil)
	return proxy.Config{Identity: id, Routes: store, Upstreams: set, Explicit: []proxy.Explicit{
		{Listen: echo, Destination: all[0].Destination}, {Listen: web, Destination: all[1].Destination},
	}}
}

// echoes serves a TCP program that sends back what it gets, and then its end.
func echoes(t *testing.T, l net.Listener) {
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(struct{ io.Writer }{c}, c)
			}()
		}
	}()
}

// serves serves an HTTP program that says who calls and what for.
func serves(t *testing.T, l net.Listener) {
	s := &http.Server{ReadHeaderTimeout: limit, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Caller", r.Header.Get("X-Forwarded-Client-Cert"))
		_, _ = io.WriteString(w, "served "+r.URL.Path)
	})}
	t.Cleanup(func() { _ = s.Close() })
	go func() { _ = s.Serve(l) }()
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
