package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/process"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

const limit = harness.Limit

var (
	binary  string // the program under test, built once
	ports   = process.NewPorts()
	spawner = process.NewSpawner()
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == asProgram {
		os.Exit(runProgram(os.Args[2:]))
	}
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "isthmus-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // other users run it, too
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if binary, err = harness.Build(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer spawner.Close()
	return m.Run()
}

// testMesh is a mesh of processes. Its PKI is made with the commands that users use.
type testMesh struct {
	t        *testing.T
	dir      string
	gateways []*gatewayProc
	weights  map[string]int     // of sidecars that are started, by name; 0: the default
	issuers  map[string]*caProc // by cluster; none: certificates are in files
	files    int                // what is started may have open; 0: as many as this process
	foreign  map[string]string  // clusters of another trust domain, and the directory of its PKI
	domains  map[string]string  // trustDomains of a cluster's processes; none: there is one
}

type gatewayProc struct {
	*proc
	cluster, name            string
	tunnel, mesh, xds, admin string
	resources                string
}

type sidecarProc struct {
	*proc
	admin    string
	listener string // the explicit listener, with an upstream
	inbound  string
}

func newMesh(t *testing.T, clusters ...string) *testMesh {
	t.Helper()
	m := &testMesh{t: t, dir: t.TempDir()}
	m.isthmus("pki", "init", "--trust-domain", "e2e.example", "-d", m.path("pki"))
	for _, c := range clusters {
		m.isthmus("pki", "cluster", c, "-d", m.path("pki"))
	}
	return m
}

func (m *testMesh) path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}

// pki is the directory of a cluster's PKI.
func (m *testMesh) pki(cluster string) string {
	if dir, ok := m.foreign[cluster]; ok {
		return dir
	}
	return m.path("pki")
}

// isthmus runs a command and returns its output; it must succeed.
func (m *testMesh) isthmus(args ...string) string {
	m.t.Helper()
	out, err := harness.Isthmus(binary, args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *testMesh) write(name, content string) string {
	m.t.Helper()
	path := m.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// issuer starts a CA of a cluster, whose gateways and sidecars that are made from now on
// get their certificates there.
func (m *testMesh) issuer(cluster string, life time.Duration) *caProc {
	m.t.Helper()
	ca := m.ca(cluster+"-ca", m.path("pki", cluster), "", life)
	if m.issuers == nil {
		m.issuers = map[string]*caProc{}
	}
	m.issuers[cluster] = ca
	return ca
}

// identity makes the identity of a process, a "gateway" or a "workload", and returns the
// key for its configuration.
func (m *testMesh) identity(cluster, process, kind, who string) string {
	m.t.Helper()
	if ca := m.issuers[cluster]; ca != nil {
		token := m.write(process+"/token", "")
		m.isthmus("pki", "token", "-c", ca.file, "--"+kind, who, "-o", token, "--force")
		return fmt.Sprintf("{ca: [%s], token: %s}", ca.grpc, token)
	}
	dir := m.path(process, "pki")
	m.isthmus("pki", kind, "--cluster", cluster, who, "-d", m.pki(cluster), "-o", dir)
	return fmt.Sprintf("{dir: %s}", dir)
}

// gateway writes the files of a gateway and starts it. It joins the mesh
// through the first gateway that was made.
func (m *testMesh) gateway(cluster, name string) *gatewayProc {
	m.t.Helper()
	at := freePorts(m.t, 4)
	g := &gatewayProc{cluster: cluster, name: name, tunnel: at[0], mesh: at[1], xds: at[2], admin: at[3],
		resources: m.path(name, "resources")}
	join := ""
	if len(m.gateways) > 0 {
		join = m.gateways[0].tunnel
	}
	if err := os.MkdirAll(g.resources, 0o700); err != nil {
		m.t.Fatal(err)
	}
	file := m.write(name+"/gateway.yaml", fmt.Sprintf(`cluster: %s
name: %s
advertise: %s
meshAddress: %s
join: [%s]
identity: %s
resources: %s
state: %s
listen: {tunnel: "%[3]s", mesh: "%[4]s", xds: "%[9]s", admin: "%[10]s"}
%[11]s`, cluster, name, g.tunnel, g.mesh, join, m.identity(cluster, name, "gateway", name), g.resources, m.path(name, "state"), g.xds, g.admin, m.domains[cluster]))
	g.proc = m.process(name, "gateway", "-c", file)
	m.gateways = append(m.gateways, g)
	g.start()
	return g
}

// service writes a resource: a plain service with the given endpoints, exported.
func (g *gatewayProc) service(t *testing.T, name string, protocol string, endpoints ...string) {
	t.Helper()
	ns, svc, _ := strings.Cut(name, "/")
	var eps strings.Builder
	for _, e := range endpoints {
		fmt.Fprintf(&eps, "    - address: %s\n", e)
	}
	doc := fmt.Sprintf(`apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: %s, name: %s}
spec:
  export: true
  ports: [{port: 80, protocol: %s}]
  endpoints:
%s`, ns, svc, protocol, eps.String())
	if err := os.WriteFile(filepath.Join(g.resources, svc+".yaml"), []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sidecar writes the files of a sidecar and starts it. target is the program
// beside it and upstream the service that its explicit listener leads to;
// either may be empty.
func (m *testMesh) sidecar(cluster, name, service, protocol, target, upstream string, program ...string) *sidecarProc {
	m.t.Helper()
	s := m.prepared(cluster, name, service, protocol, target, upstream, func(*sidecarProc) []string { return program })
	s.start()
	return s
}

// prepared is sidecar without starting it, for a program that is told where its
// sidecar listens.
func (m *testMesh) prepared(cluster, name, service, protocol, target, upstream string, program func(*sidecarProc) []string) *sidecarProc {
	m.t.Helper()
	at := freePorts(m.t, 3)
	s := &sidecarProc{admin: at[0], listener: at[1], inbound: at[2]}
	var xds []string
	for _, g := range m.gateways {
		if g.cluster == cluster {
			xds = append(xds, g.xds)
		}
	}
	cfg := fmt.Sprintf("gateways: [%s]\nidentity: %s\nstate: %s\nlisten: {inbound: \"%s\", admin: \"%s\"}\n",
		strings.Join(xds, ", "), m.identity(cluster, name, "workload", service), m.path(name, "state"), s.inbound, s.admin)
	if target != "" {
		cfg += fmt.Sprintf("service: {name: %s, port: 80, target: \"%s\", protocol: %s, instance: %s, advertise: \"%s\", export: true, weight: %d}\n",
			service, target, protocol, name, s.inbound, max(m.weights[name], 1))
	}
	cfg += m.domains[cluster]
	if upstream != "" {
		cfg += fmt.Sprintf("upstreams:\n  - {listen: \"%s\", service: %s, port: 80}\n", s.listener, upstream)
	}
	args := []string{"sidecar", "-c", m.write(name+"/sidecar.yaml", cfg)}
	if argv := program(s); len(argv) > 0 {
		args = append(append(args, "--"), argv...)
	}
	s.proc = m.process(name, args...)
	return s
}

// proc is one process of this binary.
type proc struct {
	*process.Process
	t *testing.T
}

// process prepares one; the test fails when it breaks or ends by itself.
func (m *testMesh) process(name string, args ...string) *proc {
	m.t.Helper()
	argv := append([]string{binary}, args...)
	if m.files > 0 {
		argv = append([]string{"/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, m.files)}, argv...)
	}
	p := &proc{&process.Process{Name: name, Args: argv, Log: m.path(name + ".log")}, m.t}
	m.t.Cleanup(func() {
		err := p.Err()
		p.Kill()
		if err != nil {
			m.t.Error(err)
		}
		if m.t.Failed() {
			m.t.Logf("the end of %s's log:\n%s", name, p.Tail(40))
		}
	})
	return p
}

func (p *proc) start() {
	p.t.Helper()
	if err := p.Start(spawner); err != nil {
		p.t.Fatal(err)
	}
}

// end sends sig and waits for the end of the process.
func (p *proc) end(sig syscall.Signal) {
	p.t.Helper()
	if err := p.End(sig, limit); err != nil {
		p.t.Error(err)
	}
}

// endAlone is end with a signal that only the process itself gets.
func (p *proc) endAlone(sig syscall.Signal) {
	p.t.Helper()
	if err := p.EndAlone(sig, limit); err != nil {
		p.t.Error(err)
	}
}

// status asks a gateway as `isthmus status` does.
func (g *gatewayProc) status() (*status.Gateway, error) {
	a, err := status.Ask(context.Background(), g.admin)
	if err == nil && a.Gateway == nil {
		err = errors.New(a.Waiting.Verdict())
	}
	return a.Gateway, err
}

// settled waits until every gateway sees every other and has the given number
// of ready instances of each service in each cluster: "cluster service" → n.
func (m *testMesh) settled(want map[string]uint32) {
	m.t.Helper()
	m.eventually(func() error {
		for _, g := range m.gateways {
			s, err := g.status()
			if err != nil {
				return fmt.Errorf("%s: %w", g.name, err)
			}
			up := 0
			for _, p := range s.Gateways {
				if p.Tunnel != "down" && p.Gossip == "alive" {
					up++
				}
			}
			if up != len(m.gateways) {
				return fmt.Errorf("%s sees %d gateways of %d", g.name, up, len(m.gateways))
			}
			have := map[string]uint32{}
			for _, svc := range s.Services {
				for _, c := range svc.Clusters {
					if c.Reachable {
						have[string(c.Cluster)+" "+svc.Service.String()] = c.Ready
					}
				}
			}
			for k, n := range want {
				if have[k] != n {
					return fmt.Errorf("%s sees %d ready of %s, want %d", g.name, have[k], k, n)
				}
			}
			for _, o := range s.Origins {
				if o.Stale {
					return fmt.Errorf("%s holds a stale catalog of %s", g.name, o.Origin)
				}
			}
		}
		return nil
	})
}

// eventually retries check until it passes.
func (m *testMesh) eventually(check func() error) {
	m.t.Helper()
	if err := harness.Eventually(check); err != nil {
		m.t.Fatal(err)
	}
}

// get fetches a URL.
func get(url string) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// answers waits until url is answered with 200 and the given body.
func (m *testMesh) answers(url, body string) {
	m.t.Helper()
	m.eventually(func() error {
		code, got, err := get(url)
		if err != nil {
			return err
		}
		if code != http.StatusOK || strings.TrimSpace(got) != body {
			return fmt.Errorf("%s answers %d %q, want %q", url, code, got, body)
		}
		return nil
	})
}

// freePorts returns addresses, host:port, that no other test has.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	addrs, err := ports.Take(n)
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}
