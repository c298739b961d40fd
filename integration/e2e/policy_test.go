package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

// resource writes a file into every gateway's resources of a cluster.
func (m *testMesh) resource(cluster, name, text string) {
	m.t.Helper()
	for _, g := range m.gateways {
		if g.cluster != cluster {
			continue
		}
		path := filepath.Join(g.resources, name+".yaml")
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			m.t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			m.t.Fatal(err)
		}
	}
}

// says waits until a URL is answered with a status and a body that contains text.
func (m *testMesh) says(url string, code int, text string) {
	m.t.Helper()
	m.eventually(func() error {
		got, body, err := get(url)
		if err == nil && (got != code || !strings.Contains(body, text)) {
			err = fmt.Errorf("%s is answered %d %q, want %d %q", url, got, body, code, text)
		}
		return err
	})
}

// accepting has serve called for each connection to the address that it returns. It closes them.
func accepting(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

// echoes is a TCP program that says what it hears.
func echoes(t *testing.T) string {
	t.Helper()
	return accepting(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// echo says a word on c and waits for it to come back.
func echo(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err := fmt.Fprint(c, "ping"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return err
}

// talks waits for a connection to addr on which a word comes back.
func (m *testMesh) talks(addr string) net.Conn {
	m.t.Helper()
	var c net.Conn
	m.eventually(func() (err error) {
		if c, err = net.Dial("tcp", addr); err != nil {
			return err
		}
		if err = echo(c); err != nil {
			_ = c.Close()
		}
		return err
	})
	m.t.Cleanup(func() { _ = c.Close() })
	return c
}

// silent waits until no word comes back from addr.
func (m *testMesh) silent(addr string) {
	m.t.Helper()
	m.eventually(func() error {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil
		}
		defer c.Close()
		if echo(c) == nil {
			return fmt.Errorf("%s answers", addr)
		}
		return nil
	})
}

const (
	ordersAllow = `apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: orders}
spec: {allow: ["shop/*", front/web]}
`
	ledgerDeny = `apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: no-front}
spec: {services: [ledger], action: deny, rules: [{from: ["front/*"]}]}
`
	adminDeny = `apiVersion: isthmus.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: no-admin}
spec: {services: [orders], action: deny, dryRun: %t, rules: [{paths: ["/admin/*"]}]}
`
	ledgerAllow = `apiVersion: isthmus.io/v1alpha1
kind: Service
metadata: {namespace: shop, name: ledger}
spec: {allow: ["shop/*", front/web]}
`
)

func TestWhoMayCallIsWhatTheResourcesOfTheServicesClusterSay(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	m.gateway("west", "west-1")
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) }))
	t.Cleanup(program.Close)
	orders := m.sidecar("west", "orders-1", "shop/orders", "http", program.Listener.Addr().String(), "")
	m.sidecar("west", "ledger-1", "shop/ledger", "tcp", echoes(t), "")
	own := "http://" + m.sidecar("east", "own", "shop/web", "", "", "shop/orders").listener
	front := "http://" + m.sidecar("east", "front", "front/web", "", "", "shop/orders").listener
	ownTCP := m.sidecar("east", "own-tcp", "shop/web", "", "", "shop/ledger").listener
	frontTCP := m.sidecar("east", "front-tcp", "front/web", "", "", "shop/ledger").listener
	m.settled(map[string]uint32{"west shop/orders": 1, "west shop/ledger": 1})

	// By default the own namespace may, in every cluster.
	m.answers(own+"/", "/")
	m.says(front+"/", 403, "write allow: [shop/*, front/web] in Service shop/orders to permit this")
	kept := m.talks(ownTCP)
	m.silent(frontTCP)

	// A policy that changes under load admits and cuts whom it is about, and nobody else.
	ended := asking(own + "/load")
	m.resource("west", "orders", ordersAllow)
	m.resource("west", "ledger", ledgerAllow)
	m.answers(front+"/", "/")
	cut := m.talks(frontTCP)
	m.resource("west", "no-front", ledgerDeny)
	_ = cut.SetDeadline(time.Now().Add(limit))
	if _, err := cut.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the connection of who may not call any more: %v", err)
	}
	m.silent(frontTCP)
	m.answers(front+"/", "/")
	if err := echo(kept); err != nil {
		t.Errorf("the connection of who may call still: %v", err)
	}
	if n, failed := ended(); failed != nil || n == 0 {
		t.Errorf("of %d requests of who may call: %v", n, failed)
	}

	// What a request asks for, in whatever disguise. First only to try.
	m.resource("west", "no-admin", fmt.Sprintf(adminDeny, true))
	m.eventually(func() error {
		if code, _, err := get(front + "/admin/x"); err != nil || code != 200 {
			return fmt.Errorf("what is only tried refuses: %d, %w", code, err)
		}
		_, metrics, err := get("http://" + orders.admin + "/metrics")
		if err == nil && !strings.Contains(metrics, "isthmus_authorization_dry_run_total{decision=\"refused\"} ") {
			err = fmt.Errorf("it is not counted")
		}
		return err
	})
	m.resource("west", "no-admin", fmt.Sprintf(adminDeny, false))
	m.says(front+"/admin/x", 403, "AuthorizationPolicy shop/no-admin rules[0]")
	for _, path := range []string{"/%61dmin/x", "//admin/x", "/ADMIN"} {
		if code, body, err := get(front + path); err != nil || code != 403 {
			t.Errorf("%s: %d %q %v", path, code, body, err)
		}
	}
	if code, body, err := get(front + "/a/.%2E/b//c?d"); err != nil || code != 200 || body != "/b/c?d" {
		t.Errorf("the program is given %d %q %v, and not the path that was judged", code, body, err)
	}
}

// asking asks for a URL without end, and returns what ends that and says how often
// it was asked and how that failed first.
func asking(url string) func() (int, error) {
	stop := make(chan struct{})
	var n int
	var failed error
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			code, body, err := get(url)
			if n++; failed == nil && (err != nil || code != 200) {
				failed = fmt.Errorf("%d %q %w", code, body, err)
			}
		}
	})
	return func() (int, error) {
		close(stop)
		running.Wait()
		return n, failed
	}
}

func TestWhatIsNotExportedAnswersItsOwnClusterOnlyWhateverTheWay(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	west := m.gateway("west", "west-1")
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "mine") }))
	t.Cleanup(program.Close)
	orders := m.sidecar("west", "orders-1", "shop/orders", "http", program.Listener.Addr().String(), "")
	m.isthmus("pki", "workload", "--cluster", "east", "shop/web", "-d", m.path("pki"), "-o", m.path("far", "pki"))
	m.isthmus("pki", "workload", "--cluster", "west", "shop/web", "-d", m.path("pki"), "-o", m.path("near", "pki"))
	m.settled(map[string]uint32{"west shop/orders": 1})

	// ask calls with a certificate at the sidecar's port, or by the gateway's.
	ask := func(who, at string, through bool) (int, string, error) {
		cert, err := tls.LoadX509KeyPair(m.path(who, "pki", "cert.pem"), m.path(who, "pki", "key.pem"))
		if err != nil {
			return 0, "", err
		}
		c, err := net.Dial("tcp", at)
		if err != nil {
			return 0, "", err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(limit))
		if through {
			fmt.Fprint(c, "CONNECT orders.shop.mesh:80 HTTP/1.1\r\nHost: orders.shop.mesh:80\r\n\r\n")
			c = &path{Conn: c, r: bufio.NewReader(c)}
		}
		over := tls.Client(c, &tls.Config{ //nolint:gosec // who answers is not what is asked here
			Certificates: []tls.Certificate{cert}, ServerName: "orders.shop.mesh", InsecureSkipVerify: true, NextProtos: []string{"http/1.1"},
		})
		fmt.Fprint(over, "GET / HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(over), nil)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	expect := func(who, at string, through bool, code int, text string) {
		t.Helper()
		if err := harness.Eventually(func() error {
			got, body, err := ask(who, at, through)
			if err == nil && (got != code || !strings.Contains(body, text)) {
				err = fmt.Errorf("%s by %s (through a gateway: %t): %d %q, want %d %q", who, at, through, got, body, code, text)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	expect("far", orders.inbound, false, 200, "mine")
	expect("far", west.mesh, true, 200, "mine") // the sidecar says export: true
	m.resource("west", "orders", "apiVersion: isthmus.io/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: orders}\nspec: {export: false}\n")
	expect("far", orders.inbound, false, 403, "shop/orders is not exported by cluster west")
	expect("far", west.mesh, true, 403, "shop/orders is not exported by cluster west") // not the gateway calls
	expect("near", orders.inbound, false, 200, "mine")
	expect("near", west.mesh, true, 200, "mine")
}

// path is a connection by CONNECT, whose answer comes before what is read.
type path struct {
	net.Conn
	r    *bufio.Reader
	open bool
}

func (p *path) Read(b []byte) (int, error) {
	if !p.open {
		resp, err := http.ReadResponse(p.r, nil)
		if err != nil {
			return 0, err
		}
		if resp.StatusCode != 200 {
			return 0, fmt.Errorf("the gateway answers %s", resp.Status)
		}
		p.open = true
	}
	return p.r.Read(b)
}
