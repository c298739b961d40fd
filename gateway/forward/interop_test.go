package forward_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// tool returns the path of a program that nobody here wrote.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is needed: %v", name, err)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

// plainHTTP starts an ordinary HTTP server behind two gateways and returns the
// near one's mesh port and a caller's identity directory.
func plainHTTP(t *testing.T) (port, dir string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello "+r.URL.Path)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	c := plainAt("orders-1", l.Addr().String())
	c.Protocol = mesh.HTTP
	m := identitytest.New(t, "mesh.example")
	p := newPair(t, m, always(c), forward.Config{}, forward.Config{})
	return p.addr, m.WorkloadDir("east", "shop", "web")
}

func TestCurlReachesAServiceThroughItsProxyOption(t *testing.T) {
	curl := tool(t, "curl")
	port, dir := plainHTTP(t)
	out, err := exec.CommandContext(t.Context(), curl, "-sS", "-k", "-p", "-x", "http://"+port, "--max-time", "20", "--tlsv1.3",
		"--cert", filepath.Join(dir, "cert.pem"), "--key", filepath.Join(dir, "key.pem"), "https://orders.shop.mesh:80/a").CombinedOutput()
	if err != nil || string(out) != "hello /a" {
		t.Fatalf("%q, %v", out, err)
	}
	// A plain request in the tunnel is refused: no open proxy.
	out, err = exec.CommandContext(t.Context(), curl, "-sS", "-p", "-x", "http://"+port, "--max-time", "20", "http://orders.shop.mesh:80/a").CombinedOutput()
	if err == nil {
		t.Fatalf("a request without TLS is answered %q", out)
	}
}

func TestOpenSSLReachesAServiceBySNI(t *testing.T) {
	openssl := tool(t, "openssl")
	port, dir := plainHTTP(t)
	cmd := exec.CommandContext(t.Context(), openssl, "s_client", "-connect", port, "-servername", host, "-quiet", "-verify_quiet",
		"-CAfile", filepath.Join(dir, "roots.pem"), "-verify_return_error",
		"-cert", filepath.Join(dir, "cert.pem"), "-cert_chain", filepath.Join(dir, "cert.pem"), "-key", filepath.Join(dir, "key.pem"))
	cmd.Stdin = strings.NewReader("GET /b HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "hello /b") {
		t.Fatalf("%q, %v", out, err)
	}
}
