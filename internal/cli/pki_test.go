package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

// pki runs one pki command and returns what it printed.
func pki(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := PKI()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func mustPKI(t *testing.T, args ...string) string {
	t.Helper()
	out, err := pki(t, args...)
	if err != nil {
		t.Fatalf("pki %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// newPKI makes a root and cluster east in a new directory.
func newPKI(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	mustPKI(t, "init", "--trust-domain", "mesh.example", "-d", dir)
	mustPKI(t, "cluster", "east", "-d", dir)
	return dir
}

func TestPKIMakesIdentitiesThatMeet(t *testing.T) {
	dir := newPKI(t)
	mustPKI(t, "cluster", "west", "-d", dir)
	out := mustPKI(t, "gateway", "--cluster", "east", "east-1", "-d", dir)
	if want := "identity: {dir: " + dir + "/east/gateways/east-1}"; !strings.Contains(out, want) {
		t.Errorf("printed %q, want %q in it", out, want)
	}
	where := filepath.Join(t.TempDir(), "orders")
	mustPKI(t, "workload", "--cluster", "west", "shop/orders", "--service-account", "backend", "-o", where, "-d", dir)

	gw, err := identity.Open(filepath.Join(dir, "east", "gateways", "east-1"))
	if err != nil {
		t.Fatal(err)
	}
	orders, err := identity.Open(where)
	if err != nil {
		t.Fatal(err)
	}
	if got := gw.ID().String(); got != "spiffe://mesh.example/cluster/east/gateway/east-1" {
		t.Errorf("gateway is %s", got)
	}
	if got := orders.ID().String(); got != "spiffe://mesh.example/cluster/west/ns/shop/sa/backend" {
		t.Errorf("workload is %s", got)
	}
	sig, err := gw.Sign([]byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := orders.Trust().Verify([]byte("hello"), sig); err != nil || id.ID != gw.ID() {
		t.Errorf("verify: %v, %v", id, err)
	}
}

func TestPKIKeepsKeysToTheOwner(t *testing.T) {
	dir := newPKI(t)
	mustPKI(t, "workload", "--cluster", "east", "shop/orders", "-d", dir)
	found := 0
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		found++
		if strings.HasSuffix(path, "key.pem") != (info.Mode().Perm() == 0o600) {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || found != 8 {
		t.Errorf("%d files, %v", found, err)
	}
}

func TestPKISaysWhatAClusterMayOffer(t *testing.T) {
	dir := newPKI(t)
	for _, tc := range []struct{ args, want string }{
		{"cluster west", "may offer services of any namespace"},
		{"cluster west --namespaces shop,zoo --force", "may offer services of: shop, zoo"},
		{"cluster west --force", "may offer services of: shop, zoo"},
		{"cluster west --namespaces zoo --force", "may offer services of: zoo"},
		{"cluster west --namespaces * --force", "may offer services of any namespace"},
		{"cluster north --namespaces shop", "may offer services of: shop"},
	} {
		if out := mustPKI(t, append(strings.Fields(tc.args), "-d", dir)...); !strings.Contains(out, tc.want) {
			t.Errorf("%s: printed %q, want %q in it", tc.args, out, tc.want)
		}
	}
	if _, err := pki(t, "cluster", "south", "--namespaces", "Shop", "-d", dir); err == nil || !strings.Contains(err.Error(), `namespace "Shop"`) {
		t.Errorf("a bad name: %v", err)
	}
	// What cannot be read any more must not come back with more than it had.
	if err := os.WriteFile(filepath.Join(dir, "north", "ca.pem"), []byte("gone"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki(t, "cluster", "north", "--force", "-d", dir); err == nil || !strings.Contains(err.Error(), "--namespaces") {
		t.Errorf("a cluster whose namespaces are not known: %v", err)
	}
}

func TestPKIOverwritesOnlyWhenTold(t *testing.T) {
	dir := newPKI(t)
	mustPKI(t, "gateway", "--cluster", "east", "east-1", "-d", dir)
	for _, args := range [][]string{
		{"init", "--trust-domain", "mesh.example", "-d", dir},
		{"cluster", "east", "-d", dir},
		{"gateway", "--cluster", "east", "east-1", "-d", dir},
	} {
		before := pkiTree(t, dir)
		if _, err := pki(t, args...); err == nil || !strings.Contains(err.Error(), "--force") {
			t.Errorf("%v: %v", args, err)
		}
		if pkiTree(t, dir) != before {
			t.Errorf("%v: changed something", args)
		}
		mustPKI(t, append(args, "--force")...)
		if pkiTree(t, dir) == before {
			t.Errorf("%v --force: changed nothing", args)
		}
	}
}

// pkiTree returns all files below dir with their content.
func pkiTree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		b.WriteString(path)
		b.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPKISaysWhatToDo(t *testing.T) {
	empty, ready := t.TempDir(), newPKI(t)
	for _, tc := range []struct {
		args  []string
		usage bool
		want  string
	}{
		{[]string{"init"}, true, "--trust-domain mesh.example"},
		{[]string{"init", "--trust-domain", "Mesh Example"}, true, "lower-case letters"},
		{[]string{"init", "x"}, true, "takes no arguments"},
		{[]string{"cluster"}, true, "the cluster's name, such as east"},
		{[]string{"cluster", "East"}, true, "lower-case letters"},
		{[]string{"cluster", "../x"}, true, "lower-case letters"},
		{[]string{"cluster", "east", "-d", empty}, false, "isthmus pki init"},
		{[]string{"gateway", "east-1", "-d", ready}, true, "--cluster east"},
		{[]string{"gateway", "--cluster", "../east", "east-1", "-d", ready}, true, "lower-case letters"},
		{[]string{"gateway", "--cluster", "west", "west-1", "-d", ready}, false, "isthmus pki cluster west"},
		{[]string{"workload", "--cluster", "east", "orders", "-d", ready}, true, "shop/orders"},
		{[]string{"workload", "--cluster", "east", "shop/orders", "--service-account", "a/b", "-d", ready}, false, "path must be"},
	} {
		_, err := pki(t, tc.args...)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v; want %q", tc.args, err, tc.want)
		}
		if _, usage := errors.AsType[usageError](err); usage != tc.usage {
			t.Errorf("%v: usage error %v: %v", tc.args, usage, err)
		}
	}
}

func TestALifetimeMayBeInDays(t *testing.T) {
	for s, want := range map[string]time.Duration{"30d": 720 * time.Hour, "2y": 2 * 8760 * time.Hour, "90m": 90 * time.Minute} {
		var l lifetime
		if err := l.Set(s); err != nil || time.Duration(l) != want {
			t.Errorf("%s: %s, %v", s, time.Duration(l), err)
		}
	}
	for _, s := range []string{"", "30", "0d", "-1d", "200y", "65535d", "1000000h", "d", "forever"} {
		var l lifetime
		if err := l.Set(s); err == nil {
			t.Errorf("%s: accepted as %s", s, time.Duration(l))
		}
	}
}

// The chain that pki makes is checked by programs that nobody here wrote.
func TestCurlVerifiesAWorkloadByItsHostName(t *testing.T) {
	curl := needTool(t, "curl")
	dir := newPKI(t)
	mustPKI(t, "workload", "--cluster", "east", "shop/orders", "-d", dir)
	id := filepath.Join(dir, "east", "workloads", "shop", "orders")
	src, err := identity.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, err := identity.PeerID(*r.TLS)
			if err != nil {
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}
			io.WriteString(w, peer.String())
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(tls.NewListener(ln, src.ServerTLS(identitytest.AnyWorkload(), "http/1.1")))
	}()
	defer func() { srv.Close(); <-done }()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, host := range []string{"orders.shop.mesh", "orders.shop.east.mesh"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, curl, "-sS", "--noproxy", "*", "--resolve", host+":"+port+":127.0.0.1",
			"--cacert", filepath.Join(id, "roots.pem"), "--cert", filepath.Join(id, "cert.pem"), "--key", filepath.Join(id, "key.pem"),
			"https://"+host+":"+port+"/").CombinedOutput()
		if err != nil || string(out) != src.ID().String() {
			t.Errorf("curl https://%s: %q, %v", host, out, err)
		}
	}
}

func TestOpenSSLVerifiesTheChain(t *testing.T) {
	openssl := needTool(t, "openssl")
	dir := newPKI(t)
	mustPKI(t, "gateway", "--cluster", "east", "east-1", "-d", dir)
	id := filepath.Join(dir, "east", "gateways", "east-1")
	for _, purpose := range []string{"sslserver", "sslclient"} {
		out, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-purpose", purpose,
			"-CAfile", filepath.Join(id, "roots.pem"), "-untrusted", filepath.Join(dir, "east", "ca.pem"), filepath.Join(id, "cert.pem")).CombinedOutput()
		if err != nil {
			t.Errorf("openssl verify -purpose %s: %v\n%s", purpose, err, out)
		}
	}
}

// needTool returns the path of a program that a test needs; without it the test is
// skipped, and fails in CI.
func needTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is needed in CI: %v", name, err)
		}
		t.Skipf("%s is not installed: %v", name, err)
	}
	return path
}
