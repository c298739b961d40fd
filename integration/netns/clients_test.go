package netns

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

// client is a program that reaches a service of another cluster by its name.
type client struct {
	name  string
	needs string // a program that must be installed
	cmd   Command
	want  []string // parts of what it prints
}

// clients are those whose sidecar has the identity shop/NAME.
func clients(t *testing.T, w *world, name string) []client {
	t.Helper()
	compiled := w.path("client")
	if out, err := exec.Command("gcc", "-Wall", "-Werror", "-o", compiled, "testdata/client.c").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	nginx := []string{"nginx in west", "spiffe://netns.example/cluster/east/ns/shop/sa/" + name}
	value := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	sql := []string{"psql", "-X", "-h", "db.shop.mesh", "-U", "postgres", "-tA", "-v", "ON_ERROR_STOP=1"}
	return []client{
		{"curl", "curl", argv("curl", "-sS", "http://orders.shop.mesh/"), nginx},
		{"curl by HTTP/2", "curl", argv("curl", "-sS", "--http2-prior-knowledge", "http://orders.shop.mesh/"), nginx},
		{"curl by IPv4", "curl", argv("curl", "-sS4", "http://orders.shop.mesh/"), nginx},
		{"curl by IPv6", "curl", argv("curl", "-sS6", "http://orders.shop.mesh/"), nginx},
		{"curl in one cluster", "curl", argv("curl", "-sS", "http://orders.shop.west.mesh/"), nginx},
		{"Python", "python3", argv("python3", "-c", `import urllib.request; print(urllib.request.urlopen("http://orders.shop.svc.clusterset.local/").read().decode())`), nginx},
		{"Node", "node", argv("node", "testdata/client.js", "http://orders.shop.mesh/"), nginx},
		{"Go", "", argv(self, "program", "http", "http://orders.shop.mesh/"), nginx},
		{"Java", "java", argv("java", "testdata/Client.java", "http://orders.shop.mesh/"), nginx},
		{"C", "", argv(compiled, "orders.shop.mesh", "80"), nginx},
		{"psql", "psql", Command{Argv: sql, Env: []string{"PGPASSWORD=" + password}, Input: `
CREATE TEMP TABLE parcel AS SELECT n, repeat('x', 1000) AS what FROM generate_series(1, 2000) n;
SELECT count(*), sum(length(what)) FROM parcel;
COPY parcel TO STDOUT;
`}, []string{"2000|2000000", "\n2000\txxx"}},
		{"redis-cli", "redis-cli", argv("redis-cli", "-h", "cache.shop.svc.clusterset.local", "SET", "short", "value"), []string{"OK"}},
		{"redis-cli writes 1 MiB", "redis-cli", Command{Argv: []string{"redis-cli", "-h", "cache.shop.mesh", "-x", "SET", "long"}, Input: value}, []string{"OK"}},
		{"redis-cli reads 1 MiB", "redis-cli", argv("redis-cli", "-h", "cache.shop.mesh", "EVAL", "redis.call('SET', 'made', string.rep('0123456789abcdef', 65536)); return redis.call('GET', 'made')", "0"), []string{value}},
		{"gRPC", "", argv(self, "program", "grpc", "health.shop.mesh:50051"), []string{"check SERVING\nwatched 10\n"}},
		{"WebSocket", "", argv(self, "program", "websocket", "ws://chat.shop.mesh:8080/"), []string{"a greeting from north\necho 5\necho 1048576\n"}},
	}
}

func argv(a ...string) Command { return Command{Argv: a} }

func TestProgramsThatKnowNothingReachOtherClustersByName(t *testing.T) {
	w := theWorld(t)
	harness.Tool(t, "gcc")
	for i, way := range []struct {
		host, settings string
		clients        []string // nil: all
	}{
		{host: "web", settings: "mode: ebpf"},
		{host: "past-tcp", settings: "mode: ebpf, acceleration: on"},
		{"nft", "mode: nftables", []string{"curl", "psql"}},
	} {
		t.Run(way.settings, func(t *testing.T) {
			h := w.guest(t, way.host, 10+i)
			wire := h.tap(t)
			program := h.capture(t, way.host, way.settings, "")
			for _, c := range clients(t, w, way.host) {
				if way.clients == nil || slices.Contains(way.clients, c.name) {
					t.Run(c.name, func(t *testing.T) { c.test(t, program) })
				}
			}
			if n := wire.count(t); n != (seen{}) {
				t.Errorf("%+v went to virtual addresses on the wire", n)
			}
			metrics, err := h.page("metrics")
			if err != nil {
				t.Fatal(err)
			}
			if past := pastTCP.MatchString(metrics); past != (way.host == "past-tcp") {
				t.Errorf("messages were redirected: %v", past)
			}
		})
	}
}

// pastTCP is on the metrics page when messages have.
var pastTCP = regexp.MustCompile(`isthmus_interception_messages_total\{way="past_tcp"\} [1-9]`)

func (c *client) test(t *testing.T, program *captured) {
	if c.needs != "" {
		harness.Tool(t, c.needs)
	}
	got := program.run(t, c.cmd)
	for _, want := range c.want {
		if !strings.Contains(got, want) {
			t.Errorf("it printed\n%.1000s\nwant %.100q in it", got, want)
		}
	}
}
