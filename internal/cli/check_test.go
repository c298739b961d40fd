package cli

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

// checkFile writes text as a configuration, runs isthmus check on it and
// returns the exit code and the output without the directory.
func checkFile(t *testing.T, dir, text string, args ...string) (int, string) {
	t.Helper()
	path := filepath.Join(dir, "f.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, problems bytes.Buffer
	code := Main(append([]string{"check", "-c", path}, args...), &out, &problems)
	return code, strings.ReplaceAll(out.String()+problems.String(), dir+"/", "")
}

const freePorts = "listen: {tunnel: '127.0.0.1:0', mesh: '127.0.0.1:0', xds: '127.0.0.1:0', admin: '127.0.0.1:0'}\n"

func TestCheckFindsNothingWrongWithAGoodGateway(t *testing.T) {
	dir := t.TempDir()
	pki := identitytest.New(t, "mesh.example").GatewayDir("west", "west-1")
	code, out := checkFile(t, dir, "cluster: west\nname: west-1\nadvertise: h:1\nstate: state\nidentity: {dir: "+pki+"}\n"+freePorts)
	if code != 0 || out != "f.yaml: nothing is wrong with this gateway\n" && !strings.HasPrefix(out, "note: the certificate") {
		t.Errorf("%d: %s", code, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "state")); err == nil {
		t.Error("checking made the state directory")
	}
}

func TestCheckSaysEverythingAtOnce(t *testing.T) {
	dir := t.TempDir()
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := os.Mkdir(filepath.Join(dir, "resources"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "resources", "a.yaml"), []byte("kind: Nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := checkFile(t, dir, "clutser: west\nname: west-1\nadvertise: h:1\nidentity: {dir: nowhere}\nresources: resources\nstate: f.yaml\n"+
		"listen: {tunnel: '127.0.0.1:0', mesh: '"+held.Addr().String()+"', xds: '127.0.0.1:0', admin: '127.0.0.1:0'}\n")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"f.yaml:1: clutser: there is no such key: write cluster",
		"f.yaml:1: cluster: is missing",
		"f.yaml:4: identity.dir: ",
		"a.yaml:1: kind: \"Nothing\" is not understood",
		"f.yaml:6: state: state directory f.yaml",
		"f.yaml:7: listen.mesh: cannot listen on tcp " + held.Addr().String(),
		"6 faults",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q in:\n%s", want, out)
		}
	}
}

func TestCheckSaysOneThingOfAFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none.yaml")
	for _, args := range [][]string{nil, {"--role", "gateway"}, {"--role", "sidecar"}} {
		for text, want := range map[string]string{
			"":                      "f.yaml: is empty: ",
			"# nothing\n---\n":      "f.yaml: is empty: ",
			"cluster: [a\n":         "f.yaml:2: is not YAML: ",
			"- a\n":                 "f.yaml:1: is a list: ",
			"cluster: a\n---\na: 1": "f.yaml:3: begins a second document",
		} {
			code, out := checkFile(t, dir, text, args...)
			if code != 1 || !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "\n1 fault\n") {
				t.Errorf("%q %v: %d:\n%s", text, args, code, out)
			}
		}
		var out bytes.Buffer
		if code := Main(append([]string{"check", "-c", missing}, args...), &out, &out); code != 1 || out.String() != missing+": there is no such file: check the path\n1 fault\n" {
			t.Errorf("%v: %d: %s", args, code, &out)
		}
	}
}

func TestCheckSaysNothingOfWhatStandsInForABadValue(t *testing.T) {
	_, out := checkFile(t, t.TempDir(), "cluster: west\nname: west-1\nadvertise: h:1\nidentity: 5\nstate: [a]\nlisten: {tunnel: '127.0.0.1:0', mesh: [x], xds: '127.0.0.1:0', admin: '127.0.0.1:0'}\n")
	if !strings.HasSuffix(out, "3 faults\n") || strings.Contains(out, "/etc/isthmus") || strings.Contains(out, "/var/lib") || strings.Contains(out, "15443") {
		t.Errorf("it says:\n%s", out)
	}
}

func TestCheckFindsWhatWouldFailLater(t *testing.T) {
	dir := t.TempDir()
	pki := identitytest.New(t, "mesh.example").GatewayDir("west", "west-1")
	resource := "apiVersion: isthmus.io/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: empty}\nspec: {ports: [{port: 80}]}\n" +
		"---\napiVersion: isthmus.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop, name: web}\nspec: {services: [emtpy, empty], rules: [{from: [front/web]}]}\n"
	if err := os.MkdirAll(filepath.Join(dir, "resources"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "resources", "empty.yaml"), []byte(resource), 0o600); err != nil {
		t.Fatal(err)
	}
	const good = "cluster: west\nname: west-1\n"
	for text, want := range map[string]string{
		"advertise: ::1:7500\nstate: state\n":                                 "f.yaml:4: advertise: \"::1:7500\" can be an address alone as well as one with a port: write [::1:7500], or [::1]:7500",
		"advertise: h:1\nstate: state\njoin: ['h:1']\n":                       "f.yaml:6: join: h:1 is this gateway itself",
		"advertise: h:1\nstate: /proc/isthmus\n":                              "f.yaml:5: state: state directory /proc/isthmus",
		"advertise: h:1\nstate: state\nresources: resources\n":                "note: service shop/empty has no endpoints",
		"advertise: h:1\nstate: state\nresources:  resources\n":               "note: AuthorizationPolicy shop/web is about service shop/emtpy, of which",
		"advertise: h:1\nstate: state\nresources: nowhere\nlisten: {mesh: 1}": "f.yaml:6: resources: ",
	} {
		listen := ""
		if !strings.Contains(text, "listen:") {
			listen = freePorts
		}
		_, out := checkFile(t, dir, good+"identity: {dir: "+pki+"}\n"+text+listen)
		if !strings.Contains(out, want) {
			t.Errorf("%q: no %q in:\n%s", text, want, out)
		}
	}
}

func TestCheckComparesTheCertificateWithTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	pki := identitytest.New(t, "mesh.example")
	gateway, workload := pki.GatewayDir("west", "west-1"), pki.WorkloadDir("west", "shop", "orders")
	rest := "advertise: h:1\nstate: state\n" + freePorts
	for text, want := range map[string]string{
		"cluster: east\nname: west-1\nidentity: {dir: " + gateway + "}\n" + rest:                                                                                                   "it is that of gateway west/west-1, but this is gateway east/west-1",
		"cluster: west\nname: west-1\nidentity: {dir: " + workload + "}\n" + rest:                                                                                                  "it is that of workload",
		"gateways: [a]\nstate: state\nidentity: {dir: " + gateway + "}\nlisten: {admin: '127.0.0.1:0'}\n":                                                                          "which is no workload; or make one with isthmus pki workload",
		"gateways: [a]\nstate: state\nidentity: {dir: " + workload + "}\nlisten: {admin: '127.0.0.1:0', inbound: '127.0.0.1:0'}\nservice: {name: bank/x, target: 'localhost:1'}\n": "may only offer services of namespace shop",
	} {
		if code, out := checkFile(t, dir, text); code != 1 || !strings.Contains(out, want) || !strings.Contains(out, "identity.dir: ") {
			t.Errorf("want %q, got %d:\n%s", want, code, out)
		}
	}
}

func TestCheckSaysWhenAServiceIsOfAnotherAccount(t *testing.T) {
	web := identitytest.New(t, "mesh.example").WorkloadDir("west", "shop", "web")
	_, out := checkFile(t, t.TempDir(), "gateways: [a]\nstate: state\nidentity: {dir: "+web+"}\nlisten: {admin: '127.0.0.1:0', inbound: '127.0.0.1:0'}\nservice: {name: shop/orders, target: 'localhost:1'}\n")
	if !strings.Contains(out, "note: the certificate is of service account web") || !strings.Contains(out, "serves: [web]") {
		t.Error(out)
	}
}

func TestCheckLeavesThePortsOfARunningProcessAlone(t *testing.T) {
	dir := t.TempDir()
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	release, err := config.ClaimState(filepath.Join(dir, "state"), config.SidecarRole)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	pki := identitytest.New(t, "mesh.example").WorkloadDir("west", "shop", "orders")
	code, out := checkFile(t, dir, "gateways: [a]\nstate: state\nidentity: {dir: "+pki+"}\nlisten: {admin: '"+held.Addr().String()+"'}\n")
	if code != 0 || !strings.Contains(out, "is running: whether the ports are free was not checked") {
		t.Errorf("%d:\n%s", code, out)
	}
}

func TestCheckSpeaksJSON(t *testing.T) {
	code, out := checkFile(t, t.TempDir(), "gateways: []\nstate: state\nlisten: {admin: '127.0.0.1:0'}\n", "-o", "json")
	var got check
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if code != 1 || got.OK || got.Role != "sidecar" || len(got.Faults) == 0 || got.Faults[0].Key != "gateways" || got.Faults[0].Line != 1 {
		t.Errorf("%d: %+v", code, got)
	}
}

func TestCheckThatIsMisusedExitsWith2(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"--role", "proxy"}, {"more"}, {"-o", "xml"}} {
		if code, out := checkFile(t, dir, "cluster: a\n", args...); code != 2 {
			t.Errorf("%v: %d: %s", args, code, out)
		}
	}
	if code, out := checkFile(t, dir, "state: a\n"); code != 2 || !strings.Contains(out, "--role") {
		t.Errorf("an unclear role: %d: %s", code, out)
	}
	var out bytes.Buffer
	if code := Main([]string{"check"}, &out, &out); code != 2 {
		t.Errorf("no file: %d: %s", code, &out)
	}
	if code := Main([]string{"check", "-c", filepath.Join(dir, "none.yaml")}, &out, &out); code != 1 || !strings.Contains(out.String(), "there is no such file") {
		t.Errorf("a missing file: %d: %s", code, &out)
	}
}

func TestCheckFindsThePortsOfInterceptionTaken(t *testing.T) {
	dir := t.TempDir()
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	_, port, _ := net.SplitHostPort(held.Addr().String())
	pki := identitytest.New(t, "mesh.example").WorkloadDir("west", "shop", "orders")
	_, out := checkFile(t, dir, "gateways: [a]\nstate: state\nidentity: {dir: "+pki+"}\nlisten: {admin: '127.0.0.1:0'}\n"+
		"interception: {mode: auto, outboundPort: "+port+", dnsPort: "+port+"}\n")
	for _, key := range []string{"interception.outboundPort", "interception.dnsPort"} {
		if !strings.Contains(out, key+": cannot listen on tcp 127.0.0.1:"+port) {
			t.Errorf("%s is not named:\n%s", key, out)
		}
	}
}

func TestCheckWarnsOfOperatorPortsThatOthersReach(t *testing.T) {
	dir := t.TempDir()
	pki := identitytest.New(t, "mesh.example").GatewayDir("west", "west-1")
	code, out := checkFile(t, dir, "cluster: west\nname: west-1\nadvertise: h:1\nstate: state\nidentity: {dir: "+pki+"}\n"+
		"listen: {tunnel: '127.0.0.1:0', mesh: '127.0.0.1:0', xds: '127.0.0.1:0', admin: '0.0.0.0:0', metrics: '0.0.0.0:0', profiles: '0.0.0.0:0'}\n")
	for key, warned := range map[string]bool{"listen.admin": true, "listen.profiles": true, "listen.metrics": false} {
		if strings.Contains(out, "note: "+key) != warned {
			t.Errorf("warned of %s: %v, want %v: %s", key, !warned, warned, out)
		}
	}
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestCheckLooksAtTheTokensModeAndAtTheAgentsSocket(t *testing.T) {
	dir := t.TempDir()
	root, err := identity.NewRoot("mesh.example", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	west, err := root.NewCluster("west", nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := west.NewToken(identity.ID{TrustDomain: "mesh.example", Cluster: "west", Gateway: "west-1"}, "ca-1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	const head = "cluster: west\nname: west-1\nadvertise: h:1\nstate: state\n"
	for mode, noted := range map[os.FileMode]bool{0o600: false, 0o640: true, 0o604: true} {
		if err := os.WriteFile(filepath.Join(dir, "token"), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, "token"), mode); err != nil {
			t.Fatal(err)
		}
		_, out := checkFile(t, dir, head+"identity: {ca: ['127.0.0.1:1'], token: token}\n"+freePorts)
		if strings.Contains(out, "may read the token in ") != noted || strings.Contains(out, "fault") {
			t.Errorf("mode %o: noted %t, want %t:\n%s", mode, !noted, noted, out)
		}
	}
	socket := filepath.Join(dir, "agent.sock")
	agent := head + "identity: {workloadAPI: 'unix://" + socket + "'}\n" + freePorts
	if code, out := checkFile(t, dir, agent); code != 1 || !strings.Contains(out, "f.yaml:5: identity.workloadAPI: no agent listens at agent.sock (connect: no such file or directory): start it") {
		t.Errorf("without an agent: %d:\n%s", code, out)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if code, out := checkFile(t, dir, agent); code != 0 || !strings.Contains(out, "note: the certificate comes from the agent at unix://agent.sock") {
		t.Errorf("with an agent: %d:\n%s", code, out)
	}
}

func TestWhoHasNoIdentityIsToldOfAllWaysToGetOne(t *testing.T) {
	_, out := checkFile(t, t.TempDir(), "cluster: west\nname: west-1\nadvertise: h:1\nstate: state\nidentity: {dir: nowhere}\n"+freePorts)
	for _, way := range []string{"isthmus pki gateway", "identity: {ca: [HOST:15010], token: FILE}", "identity: {workloadAPI: unix:///SOCKET}"} {
		if strings.Count(out, way) == 0 {
			t.Errorf("it does not say %q:\n%s", way, out)
		}
	}
}
