package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

// units is where the systemd units are that users copy.
const units = "../../configs/systemd"

// unit reads a unit file: every value of every key, in order.
func unit(t *testing.T, name string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(units, name))
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string][]string)
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			values[key] = append(values[key], value)
		}
	}
	return values
}

func TestSystemdHasNothingToSayAboutTheUnits(t *testing.T) {
	harness.Tool(t, "systemd-analyze")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(units)); err != nil {
		t.Fatal(err)
	}
	services, err := filepath.Glob(filepath.Join(dir, "*.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range services {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.ReplaceAll(b, []byte("/usr/local/bin/isthmus"), []byte(binary)) // which must be there
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := "[Service]\nExecStart=/bin/true\n"
	if err := os.WriteFile(filepath.Join(dir, "orders.service"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"isthmus-gateway.service", "isthmus-ca.service", "isthmus-sidecar@orders.service", "isthmus-intercept@orders.service",
		"run-isthmus-bpf.mount", "isthmus-orders.slice", "orders.service",
	} {
		cmd := exec.Command("systemd-analyze", "verify", "--man=no", filepath.Join(dir, name))
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	cmd := exec.Command(harness.Tool(t, "systemd-sysusers"), "--dry-run", filepath.Join(dir, "sysusers.conf"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("sysusers.conf: %v\n%s", err, out)
	}
}

func TestNoProgramStartsInASliceBeforeItsHooks(t *testing.T) {
	intercept, slice := unit(t, "isthmus-intercept@.service"), unit(t, "isthmus-.slice.d/isthmus.conf")
	for _, key := range []string{"Requires", "After"} {
		if !slices.Contains(slice[key], "isthmus-intercept@%j.service") {
			t.Errorf("a slice has no %s= of what attaches to it", key)
		}
	}
	if !slices.Contains(intercept["PartOf"], "isthmus-%i.slice") {
		t.Error("attach is not run again for a slice that is made anew")
	}
	if !slices.Contains(intercept["BindsTo"], "run-isthmus-bpf.mount") {
		t.Error("programs run on when the pins are unmounted, and the hooks gone with them")
	}
	if stop := intercept["ExecStop"]; len(stop) > 0 {
		t.Errorf("stopping detaches: %s", stop)
	}
}

func TestEveryServiceHasAUserAndAKeyThatIsItsAlone(t *testing.T) {
	sysusers, err := os.ReadFile(filepath.Join(units, "sysusers.conf"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct{ user, keys string }{
		"isthmus-gateway.service":  {"isthmus-gateway", "/etc/isthmus/pki/gateway/"},
		"isthmus-sidecar@.service": {"isthmus-%I", "/etc/isthmus/pki/%I/"},
	} {
		u := unit(t, name)
		if !slices.Equal(u["User"], []string{want.user}) {
			t.Errorf("%s runs as %s, want %s", name, u["User"], want.user)
		}
		if user := strings.ReplaceAll(want.user, "%I", "orders"); !bytes.Contains(sysusers, []byte("u "+user+" ")) {
			t.Errorf("sysusers.conf lacks %s", user)
		}
		for _, file := range []string{"cert.pem", "key.pem", "roots.pem"} {
			if !slices.Contains(u["LoadCredential"], file+":"+want.keys+file) {
				t.Errorf("%s has %s not by LoadCredential=: %s", name, file, u["LoadCredential"])
			}
		}
		if !slices.Contains(u["Environment"], "ISTHMUS_IDENTITY_DIR=%d") {
			t.Errorf("%s does not read its credentials", name)
		}
	}
	ca := unit(t, "isthmus-ca.service")
	for _, file := range []string{"ca.pem", "ca-key.pem", "roots.pem"} {
		if !slices.Contains(ca["LoadCredential"], file+":/etc/isthmus/ca/"+file) {
			t.Errorf("isthmus-ca.service has %s not by LoadCredential=: %s", file, ca["LoadCredential"])
		}
	}
	if !slices.Equal(ca["User"], []string{"isthmus-ca"}) || !bytes.Contains(sysusers, []byte("u isthmus-ca ")) || !slices.Contains(ca["Environment"], "ISTHMUS_AUTHORITY=%d") {
		t.Errorf("isthmus-ca.service runs as %s with %s", ca["User"], ca["Environment"])
	}
	if start := unit(t, "isthmus-intercept@.service")["ExecStart"][0]; !strings.Contains(start, " --user isthmus-%I ") {
		t.Errorf("the hooks are not given to the sidecar's user: %s", start)
	}
}

func TestTheUnitsGiveThePrivilegeThatIsNeededAndNoMore(t *testing.T) {
	t.Parallel()
	harness.Tool(t, "curl")
	harness.Tool(t, "setpriv")
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer program.Close()
	m := newMesh(t, "east")
	m.needRoot()
	m.gateway("east", "east-1")
	m.sidecar("east", "orders-1", "shop/orders", "http", program.Listener.Addr().String(), "")
	m.settled(map[string]uint32{"east shop/orders": 1})
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "mine") }))
	defer own.Close()
	h := newUnitHost(m, own.Listener.Addr().String())

	capabilities := strings.Fields(strings.Join(unit(t, "isthmus-intercept@.service")["CapabilityBoundingSet"], " "))
	if out, err := h.attach(capabilities); err != nil {
		t.Fatalf("with %s: %v\n%s", capabilities, err, out)
	}
	h.serving(h.sidecar())
	if out, err := curlIn(t, h.slice, "http://orders.shop.mesh/"); err != nil || out != "hello" {
		t.Errorf("a program in %s: %v %q", h.slice, err, out)
	}
	if out := curl(own.URL); !strings.Contains(out, "only callers of the mesh") {
		t.Errorf("past the mesh the program's own port answers %q", out)
	}
	if out, err := h.attach(capabilities); err != nil {
		t.Errorf("again, as on reload: %v\n%s", err, out)
	}
	for _, c := range capabilities {
		t.Run("without "+c, func(t *testing.T) {
			rest := slices.DeleteFunc(slices.Clone(capabilities), func(other string) bool { return other == c })
			if out, err := h.attach(rest); err == nil || !strings.Contains(string(out), "missing "+c+":") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	if out, err := curlIn(t, h.slice, "http://orders.shop.mesh/"); err != nil || out != "hello" {
		t.Errorf("after attaching that failed: %v %q", err, out)
	}
}

// unitHost runs the command lines of the units as systemd would, for one name.
type unitHost struct {
	*testMesh
	name, slice string
}

// serviceUser is whom the units call isthmus-NAME.
const serviceUser = "nobody"

// newUnitHost mounts what the mount unit does and writes the file of a sidecar for
// the program at target.
func newUnitHost(m *testMesh, target string) *unitHost {
	m.t.Helper()
	h := &unitHost{testMesh: m, name: fmt.Sprintf("e2e%d", os.Getpid())}
	h.slice = fmt.Sprintf("isthmus.slice/isthmus-%s.slice", h.name)

	mount := unit(m.t, "run-isthmus-bpf.mount")
	where := mount["Where"][0]
	if err := os.MkdirAll(where, 0o755); err != nil {
		m.t.Fatal(err)
	}
	// Other tests mount it, too; the lock is theirs.
	h.root("flock", where, "sh", "-c", `mountpoint -q "$0" || mount -t "$1" -o "$2" "$3" "$0"`,
		where, mount["Type"][0], mount["Options"][0], mount["What"][0])
	m.t.Cleanup(func() {
		h.root(binary, "intercept", "clean", h.name)
		if err := syscall.Rmdir(filepath.Join(cgroupRoot(m.t), h.slice)); err != nil {
			m.t.Error("remove the slice:", err)
		}
	})

	ports := freePorts(m.t, 4)
	_, outbound, _ := strings.Cut(ports[1], ":")
	_, dns, _ := strings.Cut(ports[2], ":")
	m.isthmus("pki", "workload", "--cluster", "east", "shop/caller", "-d", m.path("pki"), "-o", m.path("etc", "pki"))
	m.write("etc/"+h.name+".yaml", fmt.Sprintf(`gateways: [%s]
identity: {dir: pki}
state: %s
listen: {admin: "%s", inbound: "%s"}
service: {name: shop/caller, port: 80, target: "%s", protocol: http, advertise: "%[4]s"}
interception: {mode: ebpf, outboundPort: %[6]s, dnsPort: %[7]s}
`, m.gateways[0].xds, m.path("etc", "state"), ports[0], ports[3], target, outbound, dns))
	h.root("install", "-d", "-o", serviceUser, "-m", "0700", m.path("etc", "state")) // StateDirectory=
	h.root("chown", "-R", serviceUser, m.path("etc", "pki"))
	h.root("chmod", "a+rX", m.path("etc", h.name+".yaml"), m.path("etc"), m.dir, filepath.Dir(m.dir))
	return h
}

func (h *unitHost) root(argv ...string) {
	h.t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		h.t.Errorf("%s: %v\n%s", argv, err, out)
	}
}

// execStart returns the arguments with which a unit runs isthmus.
func (h *unitHost) execStart(name string) []string {
	line := unit(h.t, name)["ExecStart"][0]
	line = strings.NewReplacer("/etc/isthmus", h.path("etc"), "isthmus-%I", serviceUser, "%I", h.name, "%i", h.name).Replace(line)
	return strings.Fields(line)[1:]
}

// attach does what isthmus-intercept@ does, bounded to these capabilities.
func (h *unitHost) attach(capabilities []string) ([]byte, error) {
	bound := "-all"
	for _, c := range capabilities {
		bound += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	umask := unit(h.t, "isthmus-intercept@.service")["UMask"][0]
	argv := []string{"--no-new-privs", "--inh-caps=-all", "--bounding-set=" + bound, "sh", "-c", "umask " + umask + `; exec "$0" "$@"`, binary}
	return exec.Command("setpriv", append(argv, h.execStart("isthmus-intercept@.service")...)...).CombinedOutput()
}

// serving starts a process and waits until it says that it serves, as systemd does
// with what is ordered after a unit of Type=notify.
func (h *unitHost) serving(p *proc) {
	h.t.Helper()
	address := &net.UnixAddr{Net: "unixgram", Name: "@isthmus-" + h.name}
	socket, err := net.ListenUnixgram(address.Net, address)
	if err != nil {
		h.t.Fatal(err)
	}
	defer socket.Close()
	p.Args = slices.Concat([]string{"env", "NOTIFY_SOCKET=" + address.Name}, p.Args)
	p.start()
	b := make([]byte, 100)
	if err := socket.SetReadDeadline(time.Now().Add(limit)); err != nil {
		h.t.Fatal(err)
	}
	if n, err := socket.Read(b); err != nil || string(b[:n]) != "READY=1" {
		h.t.Fatalf("%s says %q, %v", p.Name, b[:n], err)
	}
}

// sidecar is isthmus-sidecar@, without any capability.
func (h *unitHost) sidecar() *proc {
	if bound := unit(h.t, "isthmus-sidecar@.service")["CapabilityBoundingSet"]; !slices.Equal(bound, []string{""}) {
		h.t.Fatalf("the sidecar's unit gives it %s", bound)
	}
	p := h.process("unprivileged", h.execStart("isthmus-sidecar@.service")...)
	p.Args = slices.Concat([]string{"setpriv", "--no-new-privs", "--reuid=" + serviceUser, "--regid=nogroup", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"}, p.Args)
	return p
}
