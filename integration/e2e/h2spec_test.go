package e2e

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
)

// h2specCases is how many cases https://github.com/summerwind/h2spec has.
const h2specCases = 145

// passesH2spec runs every case of h2spec against a server in plain text, and wants all but
// those with the given titles to pass.
func passesH2spec(t *testing.T, address string, but ...string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	const patience = "20" // seconds, for what should happen; what should not is not waited for
	cmd := exec.CommandContext(t.Context(), goTool(t, "github.com/summerwind/h2spec/cmd/h2spec"), "-h", host, "-p", port, "-o", patience)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	said := out.String()
	_, failures, _ := strings.Cut(said, "Failures:")
	for _, title := range but {
		if !strings.Contains(failures, title) {
			t.Errorf("%q passes: expect it to", title)
		}
	}
	want := fmt.Sprintf("%d tests, %d passed, 0 skipped, %d failed", h2specCases, h2specCases-len(but), len(but))
	if !strings.Contains(said, want) {
		t.Errorf("%v, want %q:\n%s", err, want, cmp.Or(failures, said))
	}
}

// aPair is a gateway, the sidecar of shop/orders with a program beside it, and a caller's sidecar
// whose explicit listener leads there.
func aPair(t *testing.T, protocol string, program string) (m *testMesh, caller, orders *sidecarProc) {
	t.Helper()
	m = newMesh(t, "east")
	m.gateway("east", "east-1")
	orders = m.sidecar("east", "orders-1", "shop/orders", protocol, program, "")
	caller = m.sidecar("east", "web-1", "shop/web", "", "", "shop/orders")
	m.settled(map[string]uint32{"east shop/orders": 1})
	return m, caller, orders
}

// asSidecar returns an address that leads to a sidecar's inbound port as another sidecar does: by mTLS
// with HTTP/2, as who names itself by the certificate of a process.
func (m *testMesh) asSidecar(process string, to *sidecarProc) string {
	m.t.Helper()
	certificate, err := tls.LoadX509KeyPair(m.path(process, "pki", "cert.pem"), m.path(process, "pki", "key.pem"))
	if err != nil {
		m.t.Fatal(err)
	}
	d := tls.Dialer{Config: &tls.Config{
		Certificates: []tls.Certificate{certificate}, ServerName: "_80.orders.shop.mesh", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // what it speaks is asked, not who it is
	}}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			plain, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer plain.Close()
				secure, err := d.DialContext(m.t.Context(), "tcp4", to.inbound)
				if err != nil {
					m.t.Errorf("%s: %v", to.inbound, err)
					return
				}
				go func() {
					_, _ = io.Copy(secure, plain)
					_ = secure.(*tls.Conn).CloseWrite()
				}()
				_, _ = io.Copy(plain, secure)
			}()
		}
	}()
	return l.Addr().String()
}

func TestASidecarPassesEveryCaseOfH2spec(t *testing.T) {
	t.Parallel()
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("isthmus ", 128))
	}))
	t.Cleanup(program.Close)
	m, caller, orders := aPair(t, "http", program.Listener.Addr().String())
	t.Run("from a program, in plain text", func(t *testing.T) {
		// What is no preface is HTTP/1.1 there, so that it is refused in words of that, which
		// h2spec does not take for an end.
		passesH2spec(t, caller.listener, "Sends invalid connection preface")
		c, err := net.Dial("tcp4", caller.listener)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "INVALID CONNECTION PREFACE\r\n\r\n")
		if said, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(said), "HTTP/1.1 400 ") {
			t.Errorf("%q, %v", said, err)
		}
	})
	t.Run("from a sidecar, by mTLS", func(t *testing.T) { passesH2spec(t, m.asSidecar("web-1", orders)) })
}
