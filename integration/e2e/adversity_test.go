package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var chaos = flag.Duration("chaos", 12*time.Second, "how long TestEverythingComesBackAfterKills kills processes")

func TestEverythingComesBackAfterKills(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east", "west")
	var victims []*proc
	for _, c := range []string{"east", "west"} {
		for i := range 2 {
			victims = append(victims, m.gateway(c, fmt.Sprintf("%s-%d", c, i+1)).proc)
		}
	}
	for _, c := range []string{"east", "west"} {
		port := freePorts(t, 1)[0]
		victims = append(victims, m.sidecar(c, "orders-"+c, "shop/orders", "http", port, "",
			binary, "demo", "serve", "--listen", port, "--cluster", c, "--instance", "orders").proc)
	}
	caller := m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/orders")
	victims = append(victims, caller.proc)
	all := map[string]uint32{"east shop/orders": 1, "west shop/orders": 1}
	m.settled(all)

	for end := time.Now().Add(*chaos); time.Now().Before(end); {
		v := victims[rand.IntN(len(victims))]
		v.end(syscall.SIGKILL)
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
		v.start()
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
	}

	m.settled(all)
	m.answers("http://"+caller.listener+"/", "east/orders")
	m.eventually(func() error {
		for _, g := range m.gateways {
			out, err := exec.Command(binary, "status", "--admin", g.admin).CombinedOutput()
			if err != nil || strings.Contains(string(out), "down") || strings.Contains(string(out), "stale") {
				return fmt.Errorf("status of %s is not clean: %w\n%s", g.name, err, out)
			}
		}
		return nil
	})
}

func TestGarbageOnEveryPortDoesNoHarm(t *testing.T) {
	t.Parallel()
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") }))
	defer program.Close()
	p := newPair(t, "http", program.Listener.Addr().String())
	p.answers(p.url, "fine")

	targets := []string{p.east.mesh, p.east.xds, p.east.admin, p.east.tunnel, p.west.mesh, p.caller.listener, p.caller.admin}
	before := memory(t, p.east.proc)
	var senders sync.WaitGroup
	for _, addr := range targets {
		for _, network := range []string{"tcp", "udp"} {
			senders.Go(func() {
				for i := range 200 {
					c, err := net.DialTimeout(network, addr, time.Second)
					if err != nil {
						return // nobody listens there for this network
					}
					_ = c.SetDeadline(time.Now().Add(time.Second))
					_, _ = c.Write(garbage(i))
					_ = c.Close()
				}
			})
		}
	}
	senders.Wait()

	p.answers(p.url, "fine")
	p.settled(map[string]uint32{"west shop/orders": 1})
	if after := memory(t, p.east.proc); after > before+64<<20 {
		t.Errorf("the gateway grew from %d to %d MiB", before>>20, after>>20)
	}
}

// garbage returns bytes that begin like each of the protocols that are spoken.
func garbage(i int) []byte {
	starts := []string{
		"", "CONNECT ", "CONNECT orders.shop.mesh:80 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\xff\xff\x01", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
		"\xc0\x00\x00\x00\x01\x08", "\x40", "\x00", "\x01", "\xf4", "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
	}
	b := []byte(starts[i%len(starts)])
	for range rand.IntN(1200) {
		b = append(b, byte(rand.IntN(256)))
	}
	return b
}

// memory returns a process's resident set in bytes.
func memory(t *testing.T, p *proc) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

func TestBadInputGetsAClearError(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east")
	m.isthmus("pki", "gateway", "--cluster", "east", "east-1", "-d", m.path("pki"), "-o", m.path("east-1/pki"))
	m.isthmus("pki", "workload", "--cluster", "east", "shop/orders", "-d", m.path("pki"), "-o", m.path("orders/pki"))
	ports := freePorts(t, 8)
	listen := fmt.Sprintf(`listen: {tunnel: "%s", mesh: "%s", xds: "%s", admin: "%s"}`, ports[0], ports[1], ports[2], ports[3])
	gateway := func(name, pki string, more ...string) string {
		return m.write(name+".yaml", "cluster: east\nname: east-1\nidentity: {dir: "+pki+"}\nstate: "+m.path(name+"-state")+"\n"+listen+"\n"+strings.Join(more, "\n"))
	}
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"an unknown key", []string{"gateway", "-c", gateway("unknown", m.path("east-1/pki"), "jion: [a:1]")}, []string{"unknown.yaml:6", "jion", "join"}},
		{"a missing file", []string{"gateway", "-c", m.path("none.yaml")}, []string{"none.yaml"}},
		{"a missing identity", []string{"gateway", "-c", gateway("noid", m.path("nowhere"))}, []string{"nowhere"}},
		{"a workload's certificate for a gateway", []string{"gateway", "-c", gateway("wrongid", m.path("orders/pki"))}, []string{"shop", "gateway"}},
		{"a duplicate listener", []string{"sidecar", "-c", m.write("dup.yaml", fmt.Sprintf(`gateways: [127.0.0.1]
identity: {dir: %s}
state: %s
listen: {admin: "%s"}
upstreams:
  - {listen: "%s", service: shop/a, port: 80}
  - {listen: "%s", service: shop/b, port: 80}
`, m.path("orders/pki"), m.path("dup-state"), ports[4], ports[5], ports[5]))}, []string{"dup.yaml:7", ports[5]}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := exec.Command(binary, c.args...).CombinedOutput()
			if err == nil {
				t.Fatalf("%v succeeded", c.args)
			}
			for _, w := range c.want {
				if !strings.Contains(string(out), w) {
					t.Errorf("the error does not mention %q:\n%s", w, out)
				}
			}
			if strings.Contains(string(out), "goroutine ") {
				t.Errorf("it panicked:\n%s", out)
			}
		})
	}
}

func TestTheDemoLosesNoRequest(t *testing.T) {
	out, err := exec.Command(binary, "demo", "-o", "json", "--dir", t.TempDir()).Output()
	var r struct {
		OK     bool `json:"ok"`
		Phases []struct {
			Name     string         `json:"name"`
			Requests int            `json:"requests"`
			Failed   int            `json:"failed"`
			Served   map[string]int `json:"served"`
		} `json:"phases"`
	}
	if jerr := json.Unmarshal(out, &r); jerr != nil {
		t.Fatalf("the demo printed no report: %v, %v\n%s", err, jerr, out)
	}
	if (err == nil) != r.OK {
		t.Errorf("exit status %v does not match ok: %v", err, r.OK)
	}
	want := []string{"join", "steady", "instance-killed", "service-down", "gateway-killed", "cluster-frozen", "recovered", "renewed"}
	if len(r.Phases) != len(want) {
		t.Fatalf("%d phases, want %d", len(r.Phases), len(want))
	}
	// How long a gap was depends on the machine and is the demo's own to judge;
	// that nothing is lost does not.
	for i, p := range r.Phases {
		if p.Name != want[i] || p.Requests == 0 || p.Failed != 0 {
			t.Errorf("phase %+v, want %s without failures", p, want[i])
		}
	}
	if s := r.Phases[1]; s.Served["east"] != s.Requests {
		t.Errorf("steady was served by %v, want east only", s.Served)
	}
}
