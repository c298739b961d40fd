package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/gateway/discovery/registry"
	gatewayxds "github.com/isthmus-mesh/isthmus/gateway/xds"
	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/process"
	"github.com/isthmus-mesh/isthmus/internal/register"
	"github.com/isthmus-mesh/isthmus/sidecar/adsclient"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
	"github.com/isthmus-mesh/isthmus/sidecar/registration"
)

// roleEnv makes a copy of the test binary play a part in a process of its own, so
// that it can be killed and frozen. Its value is a role as JSON.
const roleEnv = "ISTHMUS_TEST_ROLE"

// role is what a process of the test does.
type role struct {
	Gateway  bool     // else a sidecar that registers
	Identity string   // directory
	Listen   string   // gateway: its xDS address
	Gateways []string // sidecar
	Instance string   // sidecar: registers shop/orders under this name
	Service  string   // gateway: shop/<Service> is all that it publishes
}

func TestMain(m *testing.M) {
	if r := os.Getenv(roleEnv); r != "" {
		if err := play(r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	spawner.Close()
	os.Exit(code)
}

var spawner = process.NewSpawner()

// ports are those of gateways: nothing else takes one while its gateway restarts.
var ports = process.NewPorts()

func freeAddr(t *testing.T) string {
	t.Helper()
	addrs, err := ports.Take(1)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
}

// play is the main of such a process.
func play(encoded string) error {
	var r role
	if err := json.Unmarshal([]byte(encoded), &r); err != nil {
		return err
	}
	id, err := identity.Open(r.Identity)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if r.Gateway {
		return playGateway(ctx, r, id)
	}
	links, err := gatewaylink.New(id, r.Gateways)
	if err != nil {
		return err
	}
	reg := registration.New(links, destination("orders"), silent())
	reg.Register(registrationOf(r.Instance))
	fmt.Println("started")
	return reg.Run(ctx)
}

func playGateway(ctx context.Context, r role, id *identity.Source) error {
	lis, err := net.Listen("tcp", r.Listen)
	if err != nil {
		return err
	}
	reg, err := registry.New(registry.Config{Log: silent()})
	if err != nil {
		return err
	}
	s, err := gatewayxds.New(gatewayxds.Config{
		Identity: id, Cluster: "east", Listener: lis, Services: []func(grpc.ServiceRegistrar){reg.Attach}, Log: silent(),
	})
	if err != nil {
		return err
	}
	s.SetRoutes([]*mesh.Route{route(r.Service, 1)}, true)
	fmt.Println("started", lis.Addr())
	return s.Run(ctx)
}

// part is a running copy of the test binary.
type part struct {
	*process.Process
	addr string // a gateway's
}

func spawn(t *testing.T, r role) *part {
	t.Helper()
	encoded, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	p := &part{Process: &process.Process{
		Name: "part " + r.Instance + r.Service, Args: []string{os.Args[0]}, Env: append(os.Environ(), roleEnv+"="+string(encoded)),
		Log: filepath.Join(t.TempDir(), "log"),
	}}
	if err := p.Start(spawner); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := p.Err()
		p.Kill()
		if err != nil {
			t.Error(err)
		}
	})
	err = harness.Eventually(func() error {
		addr, started := strings.CutPrefix(p.Tail(1), "started")
		if p.addr = strings.TrimSpace(addr); !started {
			return errors.Join(errors.New("the process does not start"), p.Err())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// hit sends a signal to a part.
func (p *part) hit(t *testing.T, s syscall.Signal) {
	t.Helper()
	var err error
	switch s {
	case syscall.SIGKILL:
		p.Kill()
	case syscall.SIGTERM:
		err = p.End(s, patience)
	default:
		err = p.Signal(s)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

func destination(name string) mesh.Destination {
	return mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: name}, Port: 80}
}

// route is a route to shop/name with n endpoints.
func route(name string, n int) *mesh.Route {
	id := "spiffe://mesh.example/cluster/east/ns/shop/sa/" + name
	r := &mesh.Route{Destination: destination(name), Protocol: mesh.HTTP, Identities: []string{id}}
	for i := range n {
		r.Local = append(r.Local, mesh.Endpoint{
			Instance: fmt.Sprintf("%s-%d", name, i+1), Address: fmt.Sprintf("10.0.1.%d:15008", i+1), Ready: true, Weight: 1, Identity: id,
		})
	}
	return r
}

func registrationOf(instance string) *register.Registration {
	return &register.Registration{
		Service: "shop/orders", Port: 80, Protocol: string(mesh.HTTP),
		Instance: instance, Address: ":15008", Ready: true, Weight: 1,
	}
}

// patience bounds every wait; only a failure reaches it.
const patience = time.Minute

// gateway is the gateway's control plane within the test's process.
type gateway struct {
	t    *testing.T
	xds  *gatewayxds.Server
	reg  *registry.Server
	addr string
	stop func() // returns when it has stopped
}

// serve starts one; an empty addr is a free port, a state of "" is none.
func serve(t *testing.T, id *identity.Source, addr, state string) *gateway {
	t.Helper()
	if addr == "" {
		addr = freeAddr(t)
	}
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string) string {
		if state == "" {
			return ""
		}
		return filepath.Join(state, name)
	}
	g := &gateway{t: t, addr: lis.Addr().String()}
	if g.reg, err = registry.New(registry.Config{StatePath: path("registrations.json"), Log: silent()}); err != nil {
		t.Fatal(err)
	}
	g.xds, err = gatewayxds.New(gatewayxds.Config{
		Identity: id, Cluster: "east", Listener: lis, Services: []func(grpc.ServiceRegistrar){g.reg.Attach},
		StatePath: path("scopes.json"), Log: silent(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	for _, part := range []func(context.Context) error{g.xds.Run, g.reg.Run} {
		run.Go(func() {
			if err := part(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	g.stop = func() { cancel(); run.Wait() }
	t.Cleanup(g.stop)
	return g
}

// instances waits until want holds of the registered instances.
func (g *gateway) instances(what string, want func([]mesh.Endpoint) bool) []mesh.Endpoint {
	g.t.Helper()
	limit := time.After(patience)
	for {
		services, past := g.reg.Snapshot()
		var all []mesh.Endpoint
		for _, s := range services {
			for _, p := range s.Ports {
				all = append(all, p.Endpoints...)
			}
		}
		if services != nil && want(all) {
			return all
		}
		select {
		case <-past:
		case <-limit:
			g.t.Fatalf("never saw %s; registered are %+v (known: %t)", what, all, services != nil)
		}
	}
}

// count is a condition for instances.
func count(n int) func([]mesh.Endpoint) bool {
	return func(e []mesh.Endpoint) bool { return len(e) == n }
}

// sidecar is a sidecar's control plane within the test's process.
type sidecar struct {
	*adsclient.Client
	registrar *registration.Registrar
	links     []*gatewaylink.Link
	t         *testing.T
	states    chan told
	last      told
	stop      func()
}

// told is what a sidecar was told.
type told struct {
	Routes []*mesh.Route
	Absent []mesh.Destination
}

type config struct {
	Identity  *identity.Source
	Gateways  []string
	Subscribe []mesh.Destination
	StatePath string
}

func join(t *testing.T, cfg config) *sidecar {
	t.Helper()
	s := &sidecar{t: t, states: make(chan told, 1000)}
	var err error
	if s.links, err = gatewaylink.New(cfg.Identity, cfg.Gateways); err != nil {
		t.Fatal(err)
	}
	s.registrar = registration.New(s.links, destination("orders"), silent())
	s.Client, err = adsclient.New(adsclient.Config{
		Links: s.links, ID: cfg.Identity.ID().String(), Subscribe: cfg.Subscribe, StatePath: cfg.StatePath, Log: silent(),
		Apply: func(routes []*mesh.Route, absent []mesh.Destination) { s.states <- told{routes, absent} },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	for _, part := range []func(context.Context) error{s.Run, s.registrar.Run} {
		run.Go(func() {
			if err := part(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	s.stop = func() { cancel(); run.Wait() }
	t.Cleanup(s.stop)
	return s
}

func (s *sidecar) Register(r *register.Registration) { s.registrar.Register(r) }

// Status returns how things stand with each gateway.
func (s *sidecar) Status() []gatewaylink.Status {
	var all []gatewaylink.Status
	for _, l := range s.links {
		all = append(all, l.Status())
	}
	return all
}

// until waits for a state in which want holds.
func (s *sidecar) until(what string, want func(told) bool) {
	s.t.Helper()
	limit := time.After(patience)
	for !want(s.last) {
		select {
		case s.last = <-s.states:
		case <-limit:
			s.t.Fatalf("never saw %s; the state is %+v, the gateways %+v", what, s.last, s.Status())
		}
	}
}

// has is the condition that shop/name has a route to n endpoints.
func has(name string, n int) func(told) bool {
	return func(s told) bool {
		for _, r := range s.Routes {
			if r.Destination == destination(name) {
				return len(r.Local) == n
			}
		}
		return false
	}
}

// lacks is the condition that shop/name is known not to exist.
func lacks(name string) func(told) bool {
	return func(s told) bool {
		for _, d := range s.Absent {
			if d == destination(name) {
				return true
			}
		}
		return false
	}
}

// waitFor waits until ok.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never became so")
		}
	}
}

// readFile returns the content of a file, "" while there is none.
func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}
