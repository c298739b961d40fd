package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// capturing starts a sidecar whose program runs script and knows nothing of the
// mesh, and returns what the script prints until its last line is "done".
func (m *testMesh) capturing(name, how, script string) *captured {
	m.t.Helper()
	out := m.path(name, "out")
	script = "exec > " + out + " 2>&1\n" + script + "\necho done\nexec sleep 1000\n"
	c := m.capturingProgram(name, how, "/bin/sh", "-c", script)
	c.out = out
	c.start()
	return c
}

// capturingProgram prepares a sidecar whose program knows nothing of the mesh.
func (m *testMesh) capturingProgram(name, how string, program ...string) *captured {
	m.t.Helper()
	m.needRoot()
	ports := freePorts(m.t, 3)
	m.isthmus("pki", "workload", "--force", "--cluster", "east", "shop/caller", "-d", m.path("pki"), "-o", m.path(name, "pki"))
	_, outbound, _ := strings.Cut(ports[1], ":")
	_, dns, _ := strings.Cut(ports[2], ":")
	id := fmt.Sprintf("e2e-%d-%s", os.Getpid(), name)
	file := m.write(name+"/sidecar.yaml", fmt.Sprintf(`gateways: [%s]
identity: {dir: %s}
state: %s
listen: {admin: "%s"}
interception: {%s, name: %s, outboundPort: %s, dnsPort: %s}
`, m.gateways[0].xds, m.path(name, "pki"), m.path(name, "state"), ports[0], how, id, outbound, dns))
	m.cleanInterception(id)
	args := append([]string{"sidecar", "-c", file, "--"}, program...)
	return &captured{proc: m.process(name, args...), id: id, admin: ports[0]}
}

func (m *testMesh) needRoot() {
	m.t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			m.t.Fatal("interception needs root")
		}
		m.t.Skip("interception needs root")
	}
}

func (m *testMesh) cleanInterception(id string) {
	m.t.Cleanup(func() {
		if out, err := exec.Command(binary, "intercept", "clean", id).CombinedOutput(); err != nil {
			m.t.Errorf("clean: %v\n%s", err, out)
		}
	})
}

type captured struct {
	*proc
	out   string
	id    string
	admin string
}

// page is what the sidecar's admin port says.
func (c *captured) page(path string) string {
	c.t.Helper()
	resp, err := http.Get("http://" + c.admin + "/" + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

// output waits until the script is done.
func (c *captured) output(m *testMesh) string {
	m.t.Helper()
	var all string
	m.eventually(func() error {
		b, err := os.ReadFile(c.out)
		if err != nil {
			return err
		}
		all = string(b)
		if !strings.HasSuffix(all, "done\n") {
			return fmt.Errorf("the program has got as far as:\n%s", all)
		}
		return nil
	})
	return all
}

func TestAProgramThatKnowsNothingReachesAnotherClusterByName(t *testing.T) {
	t.Parallel()
	harness.Tool(t, "curl")
	harness.Tool(t, "python3")
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello from west\n") }))
	defer program.Close()
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "not of the mesh\n") }))
	defer outside.Close()
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	m.gateway("west", "west-1")
	m.sidecar("west", "orders-1", "shop/orders", "http", program.Listener.Addr().String(), "")
	m.settled(map[string]uint32{"west shop/orders": 1})

	for name, how := range map[string]string{"ebpf": "mode: ebpf", "nftables": "mode: nftables", "past-tcp": "mode: ebpf, acceleration: on"} {
		t.Run(name, func(t *testing.T) {
			c := m.capturing("caller-"+name, how, `
echo curl; curl -sS -m 20 http://orders.shop.mesh/
echo clusterset; curl -sS -m 20 http://orders.shop.svc.clusterset.local/
echo python; python3 -c 'import urllib.request; print(urllib.request.urlopen("http://orders.shop.west.mesh/", timeout=20).read().decode(), end="")'
echo absent; curl -sS -m 20 http://nothing.shop.mesh/
echo outside; curl -sS -m 20 `+outside.URL)
			want := `curl
hello from west
clusterset
hello from west
python
hello from west
absent
curl: (6) Could not resolve host: nothing.shop.mesh
outside
not of the mesh
done
`
			if got := c.output(m); got != want {
				t.Errorf("the program printed\n%s\nwant\n%s", got, want)
			}
			if past := strings.Contains(c.page("metrics"), `isthmus_interception_messages_total{way="past_tcp"} 0`); past == (name == "past-tcp") && name != "nftables" {
				t.Errorf("nothing was redirected: %v", past)
			}
			answer, err := status.Parse([]byte(c.page("status")))
			if err != nil {
				t.Fatal(err)
			}
			if i := answer.Sidecar.Interception; !strings.Contains(how, "mode: "+i.Mode) || i.Accelerating != (name == "past-tcp") || i.OnFailure != "closed" {
				t.Errorf("%s: the sidecar says %+v", how, i)
			}
		})
	}
}

// ordersInEast is a mesh of one cluster in which shop/orders says hello.
func ordersInEast(t *testing.T) *testMesh {
	t.Helper()
	harness.Tool(t, "curl")
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }))
	t.Cleanup(program.Close)
	m := newMesh(t, "east")
	m.gateway("east", "east-1")
	m.sidecar("east", "orders-1", "shop/orders", "http", program.Listener.Addr().String(), "")
	m.settled(map[string]uint32{"east shop/orders": 1})
	return m
}

func TestAnotherModeTakesOverWhatTheLastOneLeft(t *testing.T) {
	t.Parallel()
	m := ordersInEast(t)
	for _, mode := range []string{"ebpf", "nftables", "ebpf"} {
		c := m.capturing("switches", "mode: "+mode, "curl -sS -m 20 http://orders.shop.mesh/")
		if got := c.output(m); got != "hello\ndone\n" {
			t.Errorf("in mode %s the program printed\n%s", mode, got)
		}
		c.end(syscall.SIGKILL) // which leaves hooks, or a table
		if err := os.Remove(c.out); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWithoutItsSidecarAProgramReachesNobodyAndThenAgain(t *testing.T) {
	t.Parallel()
	m := ordersInEast(t)

	c := m.capturing("caller-2", "mode: ebpf", `getent ahostsv4 orders.shop.mesh | head -1 | cut -d' ' -f1`)
	address, _, _ := strings.Cut(c.output(m), "\n")
	ask := func() (string, error) { return curlIn(t, "isthmus/"+c.id, "http://"+address+"/") }
	if out, err := ask(); err != nil || out != "hello\n" {
		t.Errorf("with a sidecar: %v %q", err, out)
	}
	c.end(syscall.SIGKILL)
	if out, err := ask(); err == nil || !strings.Contains(out, "connect") {
		t.Errorf("without its sidecar: %v %q, want a refusal", err, out)
	}
	c.start()
	m.eventually(func() error {
		out, err := ask()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// curl fetches url and returns what it prints, its status included.
func curl(url string) string {
	out, err := exec.Command("curl", "-sS", "-m", "20", "-w", " %{http_code}", url).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v %s", err, out)
	}
	return string(out)
}

func TestWhoCallsTheProgramsOwnPortIsRefusedOrServedAsConfigured(t *testing.T) {
	t.Parallel()
	harness.Tool(t, "curl")
	python := harness.Tool(t, "python3")
	m := newMesh(t, "east")
	m.needRoot()
	m.gateway("east", "east-1")
	m.resource("east", "permissive", "apiVersion: isthmus.io/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: server-permissive}\nspec: {allow: [\"shop/*\", anonymous]}\n")
	for _, c := range []struct{ inbound, want string }{
		{"strict", "only callers of the mesh are served here"},
		{"permissive", "it is me 200"},
		{"off", "it is me 200"},
	} {
		ports := freePorts(t, 6)
		name := "server-" + c.inbound
		id := fmt.Sprintf("e2e-%d-%s", os.Getpid(), name)
		port := func(n int) string { _, p, _ := strings.Cut(ports[n], ":"); return p }
		m.isthmus("pki", "workload", "--cluster", "east", "shop/"+name, "-d", m.path("pki"), "-o", m.path(name, "pki"))
		m.write(name+"/www/index.html", "it is me")
		file := m.write(name+"/sidecar.yaml", fmt.Sprintf(`gateways: [%s]
identity: {dir: %s}
state: %s
listen: {admin: "%s", inbound: "%s"}
service: {name: shop/%s, port: 80, target: "127.0.0.1:%s", protocol: http, advertise: "%s"}
interception: {mode: ebpf, name: %s, inbound: "%s", outboundPort: %s, dnsPort: %s}
`, m.gateways[0].xds, m.path(name, "pki"), m.path(name, "state"), ports[0], ports[1], name, port(2), ports[1], id, c.inbound, port(3), port(4)))
		m.cleanInterception(id)
		m.process(name, "sidecar", "-c", file, "--", python, "-m", "http.server", port(2), "-d", m.path(name, "www")).start()
		caller := m.sidecar("east", "caller-"+c.inbound, "shop/caller", "http", "", "shop/"+name)
		m.settled(map[string]uint32{"east shop/" + name: 1})

		m.eventually(func() error {
			if got := curl("http://" + caller.listener); got != "it is me 200" {
				return fmt.Errorf("%s: by the mesh: %q", c.inbound, got)
			}
			return nil
		})
		for _, host := range []string{"127.0.0.1", "127.0.0.2"} { // the program listens on all addresses
			if got := curl("http://" + host + ":" + port(2)); !strings.Contains(got, c.want) {
				t.Errorf("%s: past the mesh, by %s: %q, want %q", c.inbound, host, got, c.want)
			}
		}
	}
}

func TestCallersOfEachOfAProgramsPortsMeetThePolicyOfItsService(t *testing.T) {
	t.Parallel()
	harness.Tool(t, "curl")
	python := harness.Tool(t, "python3")
	m := newMesh(t, "east")
	m.needRoot()
	m.gateway("east", "east-1")
	m.resource("east", "open", "apiVersion: isthmus.io/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: open}\nspec: {allow: [\"shop/*\", anonymous]}\n")
	m.resource("east", "closed", "apiVersion: isthmus.io/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: closed}\nspec: {serves: [open], allow: [\"shop/*\"]}\n")
	ports := freePorts(t, 7)
	port := func(n int) string { _, p, _ := strings.Cut(ports[n], ":"); return p }
	id := fmt.Sprintf("e2e-%d-ports", os.Getpid())
	m.isthmus("pki", "workload", "--cluster", "east", "shop/open", "-d", m.path("pki"), "-o", m.path("server", "pki"))
	m.write("server/open/index.html", "the open one")
	m.write("server/closed/index.html", "the closed one")
	file := m.write("server/sidecar.yaml", fmt.Sprintf(`gateways: [%s]
identity: {dir: %s}
state: %s
listen: {admin: "%s", inbound: "%s"}
services:
- {name: shop/open, advertise: "%[5]s", ports: [{port: 80, target: "127.0.0.1:%[6]s", protocol: http}]}
- {name: shop/closed, advertise: "%[5]s", ports: [{port: 80, target: "127.0.0.1:%[7]s", protocol: http}]}
interception: {mode: ebpf, name: %[8]s, inbound: permissive, outboundPort: %[9]s, dnsPort: %[10]s}
`, m.gateways[0].xds, m.path("server", "pki"), m.path("server", "state"), ports[0], ports[1], port(2), port(3), id, port(4), port(5)))
	m.cleanInterception(id)
	serve := func(port, dir string) string {
		return python + " -m http.server " + port + " -d " + m.path("server", dir)
	}
	m.process("server", "sidecar", "-c", file, "--", "/bin/sh", "-c", serve(port(2), "open")+" & exec "+serve(port(3), "closed")).start()
	m.settled(map[string]uint32{"east shop/open": 1, "east shop/closed": 1})
	for n, want := range map[int]string{2: "the open one 200", 3: "anonymous"} {
		if got := curl("http://127.0.0.1:" + port(n)); !strings.Contains(got, want) || n == 3 && !strings.Contains(got, "403") {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// curlIn fetches a URL in a cgroup, by a process that no sidecar has started.
func curlIn(t *testing.T, cgroup, url string) (string, error) {
	t.Helper()
	in, err := os.Open(filepath.Join(cgroupRoot(t), cgroup))
	if err != nil {
		return "", err
	}
	defer in.Close()
	cmd := exec.Command("curl", "-sS", "-m", "20", url)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(in.Fd())}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func cgroupRoot(t *testing.T) string {
	t.Helper()
	root, err := interception.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}
