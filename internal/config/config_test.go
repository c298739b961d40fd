package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/internal/health"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// write makes a file of the text and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// faults returns the error's lines without the directory of the file.
func faults(path string, err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), filepath.Dir(path)+"/", "")
}

func TestAGatewayNeedsNoMoreThanAFewLines(t *testing.T) {
	g, err := LoadGateway(write(t, `cluster: west                     # this cluster's name
name: west-1                      # this gateway's; default: the host name
advertise: gw1.west.example:7443  # what other clusters dial
join: [gw1.east.example:7443]     # one address of any other gateway is enough; none for the first
identity: {dir: /etc/isthmus/pki}
resources: /etc/isthmus/resources # watched
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &Gateway{
		Cluster: "west", Name: "west-1", Advertise: "gw1.west.example:7443", MeshAddress: "gw1.west.example:15443",
		Join: []string{"gw1.east.example:7443"}, Identity: Identity{Dir: "/etc/isthmus/pki"}, Resources: "/etc/isthmus/resources",
		State: "/var/lib/isthmus", Listen: GatewayListen{Tunnel: ":7443", Mesh: ":15443", XDS: ":15012", Admin: "127.0.0.1:15000"}, Connections: 2,
		Limits: GatewayLimits{16384, 1024}, Drain: 10 * time.Second, Audit: Audit{Calls: AuditRefused},
		Log: Log{Format: LogText},
	}
	if !reflect.DeepEqual(g, want) {
		t.Errorf("got  %+v\nwant %+v", g, want)
	}
	if g.ID().String() != "west/west-1" {
		t.Errorf("ID is %s", g.ID())
	}
}

func TestImportsNameNamespacesAndServicesOfClusters(t *testing.T) {
	const head = "cluster: west\nname: a\nadvertise: h\nimports:"
	g, err := LoadGateway(write(t, head+" {east: [shop, zoo/lion], north: [], '*': [shop]}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (mesh.Imports{"east": {{Namespace: "shop"}, {Namespace: "zoo", Name: "lion"}}, "north": {}, "*": {{Namespace: "shop"}}}); !reflect.DeepEqual(g.Imports, want) {
		t.Errorf("got %v, want %v", g.Imports, want)
	}
	for text, want := range map[string]string{
		"{east: shop}":             "imports.east",
		"{east: [shop/*]}":         "shop/*",
		"{east: [Shop]}":           "write a namespace such as shop",
		"{East: [shop]}":           `cluster "East"`,
		"{west: [shop]}":           "west is this gateway's own cluster",
		"[east]":                   "write a mapping",
		"{east: [shop], east: []}": "twice",
		"{north: }":                "f.yaml:4: imports.north: is empty: write [] for none, or remove it",
	} {
		if _, err := LoadGateway(write(t, head+" "+text+"\n"), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestASidecarNeedsNoMoreThanAFewLines(t *testing.T) {
	s, err := LoadSidecar(write(t, `gateways: [10.0.0.5, 10.0.0.6]
identity: {dir: /etc/isthmus/pki}
service: {name: shop/orders, port: 80, target: 127.0.0.1:8080, protocol: http}   # what runs beside it; may be absent
upstreams:                                                                      # explicit listeners, until interception
  - {listen: 127.0.0.1:9001, service: shop/cart, port: 80}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &Sidecar{
		Gateways: []string{"10.0.0.5:15012", "10.0.0.6:15012"}, Identity: Identity{Dir: "/etc/isthmus/pki"},
		Service: &Service{
			Name: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80, Target: "127.0.0.1:8080", Protocol: mesh.HTTP,
			Instance: hostName(), Advertise: ":15008", Weight: 1, Health: health.Check{}.WithDefaults(), Timeouts: Timeouts{Connect: time.Second},
		},
		Upstreams: []Upstream{{Listen: "127.0.0.1:9001", Service: mesh.ServiceName{Namespace: "shop", Name: "cart"}, Port: 80, Timeouts: Timeouts{Connect: time.Second}}},
		Interception: Interception{Mode: Explicit, Name: hostName(), Cgroup: "isthmus/" + hostName(), OnFailure: FailClosed, Inbound: InboundOff, Acceleration: AccelerationOff,
			OutboundPort: 15001, DNSPort: 15053},
		State: "/var/lib/isthmus", Listen: SidecarListen{Inbound: ":15008", Admin: "127.0.0.1:15020"}, Drain: 10 * time.Second, Audit: Audit{Calls: AuditRefused},
		Log: Log{Format: LogText},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	if d := s.Upstreams[0].Destination().String(); d != "cart.shop.mesh:80" {
		t.Errorf("destination is %s", d)
	}
	if s, err := LoadSidecar(write(t, "gateways: [10.0.0.5]\n"), nil); err != nil || s.Service != nil {
		t.Errorf("without a service: %+v, %v", s, err)
	}
}

func TestACANeedsNoMoreThanItsAuthority(t *testing.T) {
	path := write(t, "name: ca-1\nauthority: pki/west\n")
	ca, err := LoadCA(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &CA{
		Name: "ca-1", Authority: filepath.Join(filepath.Dir(path), "pki/west"), TTL: 24 * time.Hour, State: "/var/lib/isthmus",
		Listen: CAListen{GRPC: ":15010", Admin: "127.0.0.1:15014"}, Drain: 10 * time.Second,
		Audit: Audit{Calls: AuditRefused}, Log: Log{Format: LogText},
	}
	if !reflect.DeepEqual(ca, want) {
		t.Errorf("got  %+v\nwant %+v", ca, want)
	}
}

func TestEveryFaultOfACAIsToldAtOnce(t *testing.T) {
	path := write(t, `name: CA 1
ttl: 1s
dnsNames: [ca.example, "not a name"]
state: ""
listen: {grpc: "127.0.0.1:15014", admin: ":15014"}
drain: 2h
`)
	_, err := LoadCA(path, nil)
	want := []string{
		"name: ", "authority: is missing: write the directory of the cluster's intermediate", "ttl: 1s is out of range: write 10s to 720h0m0s",
		"dnsNames[1]: ", "state: is empty", "listen.admin: \":15014\" listens on every interface", "drain: 2h0m0s is out of range",
	}
	for _, w := range want {
		if !strings.Contains(faults(path, err), w) {
			t.Errorf("want %q, got\n%s", w, faults(path, err))
		}
	}
}

func TestPortsThatAreLeftOutAreTheDefaultOnes(t *testing.T) {
	g, err := LoadGateway(write(t, "cluster: a\nname: b\nadvertise: h\nmeshAddress: 10.0.0.1\njoin: [x, 'fd00::1', 'x:7443']\nlisten: {mesh: 10.0.0.1, tunnel: ':7000'}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{g.Advertise, g.MeshAddress, g.Join[0], g.Join[1], g.Listen.Mesh}
	if want := []string{"h:7000", "10.0.0.1:15443", "x:7443", "[fd00::1]:7443", "10.0.0.1:15443"}; !reflect.DeepEqual(got, want) || len(g.Join) != 2 {
		t.Errorf("got %v and join %v", got, g.Join)
	}
	s, err := LoadSidecar(write(t, "gateways: [a]\nservice: {name: a/b, target: 'localhost:1', advertise: 10.0.0.9}\nlisten: {inbound: '10.0.0.9:16000'}\nupstreams: [{listen: 'localhost:2', service: a/c}]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Service.Advertise != "10.0.0.9:16000" || s.Service.Port != 80 || s.Upstreams[0].Port != 80 || s.Service.Protocol != mesh.TCP {
		t.Errorf("%+v %+v", s.Service, s.Upstreams)
	}
}

func TestASidecarsServiceIsExportedWhenItSaysSo(t *testing.T) {
	for text, want := range map[string]bool{"": false, ", export: true": true, ", export: false": false} {
		s, err := LoadSidecar(write(t, "gateways: [a]\nservice: {name: a/b, target: 'localhost:1'"+text+"}\n"), nil)
		if err != nil || s.Service.Export != want {
			t.Errorf("%q: %+v, %v", text, s.Service, err)
		}
	}
}

func TestTimeoutsAreReadPerServiceAndUpstreamAndZeroIsNone(t *testing.T) {
	s, err := LoadSidecar(write(t, `gateways: [a]
service: {name: a/b, target: 'localhost:1', timeouts: {request: 20m, connect: 0s}}
upstreams:
  - {listen: 'localhost:2', service: a/c, timeouts: {idle: 0s}}
  - {listen: 'localhost:3', service: a/d, timeouts: {idle: 2h, request: 5s}}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	none, long := time.Duration(0), 2*time.Hour
	got := []Timeouts{s.Service.Timeouts, s.Upstreams[0].Timeouts, s.Upstreams[1].Timeouts}
	want := []Timeouts{{Request: 20 * time.Minute}, {Idle: &none, Connect: time.Second}, {Request: 5 * time.Second, Idle: &long, Connect: time.Second}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	path := write(t, "gateways: [a]\nupstreams: [{listen: 'localhost:2', service: a/c, timeouts: {idle: -1s, request: 1ms, connect: 1000h}}]\n")
	_, err = LoadSidecar(path, nil)
	for _, key := range []string{"request", "idle", "connect"} {
		if !strings.Contains(faults(path, err), "f.yaml:2: upstreams[0].timeouts."+key+": ") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestTheGreatestWeightIsThatOfTheMesh(t *testing.T) {
	for weight, bad := range map[int]bool{mesh.MaxWeight: false, mesh.MaxWeight + 1: true} {
		_, err := LoadSidecar(write(t, fmt.Sprintf("gateways: [a]\nservice: {name: a/b, target: 'localhost:1', weight: %d}\n", weight)), nil)
		if (err != nil) != bad {
			t.Errorf("weight %d: %v", weight, err)
		}
	}
}

func TestAGatewayDoesNotJoinItself(t *testing.T) {
	for text, itself := range map[string]bool{
		"advertise: gw1.west.example:7443\njoin: [gw2.west.example, gw1.west.example]\n": true,
		"advertise: gw1.west.example:7443\njoin: [gw1.west.example:7444]\n":              false,
		"advertise: h:1\nlisten: {tunnel: '127.0.0.1:7444'}\njoin: ['127.0.0.1:7444']\n": true,
		"advertise: h:1\njoin: ['localhost:7443']\n":                                     true,
		"advertise: h:1\njoin: ['10.0.0.1:7443']\n":                                      false,
	} {
		path := write(t, "cluster: west\nname: west-1\n"+text)
		_, err := LoadGateway(path, nil)
		if got := strings.Contains(faults(path, err), "is this gateway itself"); got != itself {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestEveryFaultOfAGatewayIsToldAtOnce(t *testing.T) {
	path := write(t, `cluster: West
nmae: west-1
join: [":7443", 0.0.0.0:7443, gw:0]
listen: {mesh: 15443, admin: ":15000", xds: ":7443"}
drain: 2h
log: {level: loud}
connections: 99
advertise: ":1"
`)
	_, err := LoadGateway(path, nil)
	want := `f.yaml:1: cluster: "West": use lower-case letters, digits and inner hyphens
f.yaml:2: nmae: there is no such key: write name
f.yaml:3: join[0]: ":7443" has no host: write host:port, such as gw1.east.example:7443
f.yaml:3: join[1]: "0.0.0.0:7443" cannot be dialled: write the address of one host, such as gw1.east.example:7443
f.yaml:3: join[2]: "gw:0" has port 0, which cannot be dialled: write host:port, such as gw1.east.example:7443
f.yaml:4: listen.mesh: "15443" is only a number: write host:port, such as :15443
f.yaml:4: listen.xds: :7443 is already the address of listen.tunnel: write another port
f.yaml:4: listen.admin: ":15000" listens on every interface, where anybody could use it: write 127.0.0.1:15000, or 0.0.0.0:15000 if that is meant
f.yaml:5: drain: 2h0m0s is out of range: write 0s to 1h0m0s
f.yaml:6: log.level: "loud" is no log level: write debug, info, warn or error
f.yaml:7: connections: 99 is out of range: write 1 to 8
f.yaml:8: advertise: ":1" has no host: write host:port, such as gw1.west.example:7443`
	if got := faults(path, err); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestEveryFaultOfASidecarIsToldAtOnce(t *testing.T) {
	path := write(t, `identity: {dir: ""}
service:
  name: orders
  target: 127.0.0.1:9001
  protocol: h2
  instance: a,b
  weight: 0
  port: 0
  advertise: 0.0.0.0:1
  health: {type: tcp, path: /x, interval: 1ms}
upstreams:
  - {listen: 127.0.0.1:9001, service: shop/cart}
  - {listen: ":9002", service: cart, port: 99999}
  - {listen: 127.0.0.1:9001, service: shop/cart, cluster: We}
  - {}
`)
	_, err := LoadSidecar(path, nil)
	want := `f.yaml:1: gateways: is missing: write the addresses of this cluster's gateways, such as [10.0.0.5, 10.0.0.6]
f.yaml:1: identity.dir: is empty: write a directory, or remove the key for the default
f.yaml:3: service.name: service "orders": write namespace/name, such as shop/orders
f.yaml:4: service.target: 127.0.0.1:9001 is the sidecar's own upstreams[0].listen: write where the program listens
f.yaml:5: service.protocol: "h2" is not spoken: write http, grpc, http2, tcp or auto
f.yaml:6: service.instance: "a,b": use letters, digits and inner hyphens, dots and underscores
f.yaml:7: service.weight: 0 is out of range: write 1 to 1000
f.yaml:8: service.port: must be 1 to 65535
f.yaml:9: service.advertise: "0.0.0.0:1" cannot be dialled: write the address of this host, such as 10.0.1.7:15008
f.yaml:10: service.health.path: a tcp check asks for no path: remove it, or write type: http
f.yaml:10: service.health.interval: 1ms is out of range: write 50ms to 1h0m0s
f.yaml:13: upstreams[1].service: service "cart": write namespace/name, such as shop/cart
f.yaml:13: upstreams[1].port: "99999" is too large: write at most 65535
f.yaml:13: upstreams[1].listen: ":9002" listens on every interface, where anybody could use it: write 127.0.0.1:9002, or 0.0.0.0:9002 if that is meant
f.yaml:14: upstreams[2].listen: 127.0.0.1:9001 is already the address of upstreams[0].listen: write another port
f.yaml:14: upstreams[2].cluster: "We": use lower-case letters, digits and inner hyphens
f.yaml:15: upstreams[3].listen: is missing: write host:port, such as 127.0.0.1:9001
f.yaml:15: upstreams[3].service: is missing: write namespace/name, such as shop/cart`
	// Faults of one line are in the order in which they are found.
	if got := faults(path, err); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestTheEnvironmentIsOverTheFileAndFlagsAreOverBoth(t *testing.T) {
	path := write(t, "cluster: file\nname: file\nlisten: {mesh: ':1'}\nidentity: {dir: pki}\n")
	t.Setenv("ISTHMUS_NAME", "env")
	t.Setenv("ISTHMUS_CLUSTER", "env")
	t.Setenv("ISTHMUS_JOIN", "a, b:1")
	t.Setenv("ISTHMUS_LIMITS_PATHS_PER_SOURCE", "7")
	t.Setenv("ISTHMUS_LISTEN_ADMIN", "")
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	GatewayFlags(flags)
	if err := flags.Parse([]string{"--cluster=flag", "--listen-tunnel", ":2", "--state", "relative"}); err != nil {
		t.Fatal(err)
	}
	g, err := LoadGateway(path, flags)
	if err != nil {
		t.Fatal(err)
	}
	if g.Cluster != "flag" || g.Name != "env" || g.Listen.Mesh != ":1" || g.Listen.Tunnel != ":2" || g.Listen.Admin != "127.0.0.1:15000" ||
		g.Limits.PathsPerSource != 7 || !reflect.DeepEqual(g.Join, []string{"a:7443", "b:1"}) {
		t.Errorf("%+v", g)
	}
	if g.Identity.Dir != filepath.Join(filepath.Dir(path), "pki") || g.State != "relative" {
		t.Errorf("a path in the file is %s, one in a flag is %s", g.Identity.Dir, g.State)
	}
}

func TestABadOverrideIsToldByItsName(t *testing.T) {
	t.Setenv("ISTHMUS_DRAIN", "soon")
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	GatewayFlags(flags)
	if err := flags.Parse([]string{"--log-level=loud", "--join=:1"}); err != nil {
		t.Fatal(err)
	}
	_, err := LoadGateway("", flags)
	want := `configuration: cluster: is missing: write this cluster's name, such as west
environment ISTHMUS_DRAIN: drain: "soon" is no duration: write a number with its unit, such as 5s or 100ms
flag --join: join[0]: ":1" has no host: write host:port, such as gw1.east.example:7443
flag --log-level: log.level: "loud" is no log level: write debug, info, warn or error`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestWhatKubernetesPutsIntoTheEnvironmentOfAServiceNamedIsthmusIsIgnored(t *testing.T) {
	t.Setenv("ISTHMUS_SERVICE_PORT", "7443")
	t.Setenv("ISTHMUS_PORT", "tcp://10.0.0.1:7443")
	if s, err := LoadSidecar(write(t, "gateways: [a]\n"), nil); err != nil || s.Service != nil {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestAFileWithTwoDocumentsOrNoneIsNoSurprise(t *testing.T) {
	path := write(t, "cluster: a\n---\ncluster: b\n")
	if _, err := LoadGateway(path, nil); faults(path, err) != "f.yaml:3: begins a second document: write all keys into one" {
		t.Errorf("got %v", err)
	}
	path = write(t, "# nothing yet\n")
	if _, err := LoadGateway(path, nil); !strings.Contains(faults(path, err), "is empty: ") {
		t.Errorf("got %v", err)
	}
	path = filepath.Join(t.TempDir(), "none.yaml")
	if _, err := LoadGateway(path, nil); faults(path, err) != "none.yaml: there is no such file: check the path" {
		t.Errorf("got %v", err)
	}
}

func TestTheRoleIsGuessedFromTheKeys(t *testing.T) {
	for text, want := range map[string]Role{
		"cluster: a\n": GatewayRole, "gateways: [a]\n": SidecarRole, "state: x\n": "", "upstreams:\n": SidecarRole,
		"authority: pki/west\n": CARole, "name: a\n": GatewayRole, "gateways: [a]\nauthority: b\n": CARole, "name: a\ncluster: b\n": GatewayRole,
	} {
		if got, err := GuessRole(write(t, text)); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestTheExamplesAreGood(t *testing.T) {
	dir := filepath.Join("..", "..", "configs")
	for _, f := range []string{"quickstart/east/gateway.yaml", "quickstart/west/gateway.yaml", "systemd/gateway.yaml"} {
		if _, err := LoadGateway(filepath.Join(dir, f), nil); err != nil {
			t.Error(err)
		}
	}
	for _, f := range []string{"quickstart/east/ca.yaml", "quickstart/west/ca.yaml", "systemd/ca.yaml"} {
		if _, err := LoadCA(filepath.Join(dir, f), nil); err != nil {
			t.Error(err)
		}
	}
	for _, f := range []string{"quickstart/east/web.yaml", "quickstart/west/orders.yaml", "systemd/orders.yaml"} {
		if _, err := LoadSidecar(filepath.Join(dir, f), nil); err != nil {
			t.Error(err)
		}
	}
}

func TestAnEmptyFileReadsTheSameToWhoStartsAndWhoChecks(t *testing.T) {
	for _, text := range []string{"", "# nothing\n---\n", "{}\n"} {
		path := write(t, text)
		_, want := GuessRole(path)
		_, gateway := LoadGateway(path, nil)
		_, sidecar := LoadSidecar(path, nil)
		_, ca := LoadCA(path, nil)
		for _, err := range []error{gateway, sidecar, ca} {
			if err == nil || want == nil || err.Error() != want.Error() {
				t.Errorf("%q: %v, want %v", text, err, want)
			}
		}
	}
}
