package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/caclient"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

type caProc struct {
	*proc
	name, file, grpc, admin string
}

// ca writes the files of a CA that follows a gateway, which may be empty, and starts it.
// Certificates live as long as life says.
func (m *testMesh) ca(name, authority, gateway string, life time.Duration) *caProc {
	m.t.Helper()
	at := freePorts(m.t, 2)
	ca := &caProc{name: name, grpc: at[0], admin: at[1]}
	follow := ""
	if gateway != "" {
		follow = fmt.Sprintf("gateways: [%q]\n", gateway)
	}
	ca.file = m.write(name+"/ca.yaml", fmt.Sprintf(`name: %s
authority: %s
ttl: %s
state: state
listen: {grpc: "%s", admin: "%s"}
audit: {file: audit}
%s`, name, authority, life, ca.grpc, ca.admin, follow))
	ca.proc = m.process(name, "ca", "-c", ca.file)
	ca.start()
	m.caRuns(ca)
	return ca
}

// caRuns waits until a CA is ready.
func (m *testMesh) caRuns(ca *caProc) {
	m.t.Helper()
	m.eventually(func() error {
		a, err := status.Ask(m.t.Context(), ca.admin)
		if err == nil && (a.CA == nil || !a.CA.Ready) {
			err = fmt.Errorf("%+v", a.CA)
		}
		return err
	})
}

// token makes a token and returns its file.
func (m *testMesh) token(ca *caProc, name string, who ...string) string {
	m.t.Helper()
	file := m.path(name + ".token")
	m.isthmus(append([]string{"pki", "token", "-c", ca.file, "-o", file}, who...)...)
	return file
}

// certificate returns until when a process's certificate is valid.
func (m *testMesh) certificate(admin string) (time.Time, error) {
	resp, err := http.Get("http://" + admin + "/status")
	if err != nil {
		return time.Time{}, err
	}
	defer resp.Body.Close()
	var s struct {
		Certificate status.Certificate `json:"certificate"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return time.Time{}, err
	}
	return s.Certificate.NotAfter, nil
}

// Two CAs, each with an intermediate of its own; a gateway and two sidecars that have
// nothing but a token each.
func TestAClusterRunsOnTwoCAsOfWhichOneDies(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "west")
	if err := os.CopyFS(m.path("authority-1"), os.DirFS(m.path("pki", "west"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(m.path("authority-1", "ca-key.pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.isthmus("pki", "cluster", "west", "--force", "-d", m.path("pki"))
	at := freePorts(t, 9)
	one, two := m.ca("ca-1", m.path("authority-1"), at[2], 40*time.Second), m.ca("ca-2", m.path("pki", "west"), at[2], 40*time.Second)

	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	t.Cleanup(program.Close)
	identityOf := func(file string) string {
		return fmt.Sprintf("identity: {ca: [%q, %q], token: %q}\n", one.grpc, two.grpc, file)
	}
	gateway := m.process("west-1", "gateway", "-c", m.write("west-1/gateway.yaml", identityOf(m.token(one, "west-1", "--gateway", "west-1"))+fmt.Sprintf(`cluster: west
name: west-1
advertise: %s
state: state
listen: {tunnel: "%[1]s", mesh: "%s", xds: "%s", admin: "%s"}
`, at[0], at[1], at[2], at[3])))
	ordersToken := m.token(two, "orders", "--workload", "shop/orders") // of the other intermediate
	orders := m.process("orders-1", "sidecar", "-c", m.write("orders-1/sidecar.yaml", identityOf(ordersToken)+fmt.Sprintf(`gateways: [%q]
state: state
listen: {inbound: "%s", admin: "%s"}
service: {name: shop/orders, port: 80, target: "%s", protocol: http, instance: orders-1, advertise: "%[2]s"}
`, at[2], at[4], at[5], program.Listener.Addr())))
	web := m.process("web-1", "sidecar", "-c", m.write("web-1/sidecar.yaml", identityOf(m.token(one, "web", "--workload", "shop/web"))+fmt.Sprintf(`gateways: [%q]
state: state
listen: {inbound: "%s", admin: "%s"}
upstreams: [{listen: "%s", service: shop/orders}]
`, at[2], at[6], at[7], at[8])))
	for _, p := range []*proc{gateway, orders, web} {
		p.start()
	}
	m.answers("http://"+at[8]+"/", "hello")

	// Whoever finds the token has another key; the crash of the CA does not help.
	thief := func(when string) {
		t.Helper()
		_, err := caclient.New(caclient.Config{
			Addresses: []string{one.grpc, two.grpc}, TokenFile: ordersToken, Accept: func(identity.ID) error { return nil },
		}).Source(t.Context())
		if err == nil || !strings.Contains(err.Error(), "it was used before, by another key") || !strings.Contains(err.Error(), `it is for the CA "ca-2", this one is ca-1`) {
			t.Errorf("a used token %s: %v", when, err)
		}
	}
	thief("while its CA runs")
	two.end(syscall.SIGKILL)
	two.start()
	m.caRuns(two)
	thief("after its CA was killed")

	one.end(syscall.SIGKILL)
	admins := map[string]time.Time{at[3]: {}, at[5]: {}, at[7]: {}}
	for admin := range admins {
		until, err := m.certificate(admin)
		if err != nil || until.IsZero() {
			t.Fatalf("%s has a certificate until %s, %v", admin, until, err)
		}
		admins[admin] = until
	}
	for admin, before := range admins {
		m.eventually(func() error {
			until, err := m.certificate(admin)
			if err == nil && !until.After(before) {
				err = errors.New("it has not renewed its certificate")
			}
			return err
		})
	}
	m.answers("http://"+at[8]+"/", "hello")

	// Who is revoked does not become anybody any more: the CA hears of it from the gateway.
	m.isthmus("status", "--admin", two.admin, "--wait")
	m.isthmus("pki", "revoke", "spiffe://e2e.example/cluster/west/ns/shop/sa/web", "-d", m.path("pki"), "--admin", at[3])
	m.eventually(func() error {
		a, err := status.Ask(t.Context(), two.admin)
		if err == nil && (len(a.CA.Trust) != 1 || a.CA.Trust[0].Bundle == 0) {
			err = fmt.Errorf("the CA has not heard of it: %+v", a.CA.Trust)
		}
		return err
	})
	_, err := caclient.New(caclient.Config{
		Addresses: []string{two.grpc}, TokenFile: m.token(two, "web-2", "--workload", "shop/web"), Accept: func(identity.ID) error { return nil },
	}).Source(t.Context())
	if err == nil || !strings.Contains(err.Error(), "nobody would accept it") {
		t.Errorf("a token of who is revoked: %v", err)
	}
	b, err := os.ReadFile(m.path("ca-2", "audit"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"decision":"granted","who":"spiffe://e2e.example/cluster/west/gateway/west-1"`, `"why":"renewed"`,
		`"decision":"refused","who":"spiffe://e2e.example/cluster/west/ns/shop/sa/orders","from":"127.0.0.1","why":"token: it was used before`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in the audit stream:\n%s", want, b)
		}
	}
}
