package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

// rotate makes one step of a rotation of the first gateway's trust domain, when everybody
// is ready for it.
func (m *testMesh) rotate(args ...string) {
	m.t.Helper()
	begun := time.Now()
	g := m.gateways[0]
	out := m.isthmus(append([]string{"pki", "rotate", "-d", m.pki(g.cluster), "--admin", g.admin, "--wait", "60s"}, args...)...)
	m.t.Logf("after %v: %s", time.Since(begun).Round(10*time.Millisecond), out)
}

// reissue makes the identities of every process anew, where it reads them.
func (m *testMesh) reissue(workloads map[string]string) {
	m.t.Helper()
	for _, g := range m.gateways {
		m.isthmus("pki", "gateway", "--cluster", g.cluster, g.name, "-d", m.pki(g.cluster), "-o", m.path(g.name, "pki"), "--force")
	}
	for name, of := range workloads {
		cluster, service, _ := strings.Cut(of, " ")
		m.isthmus("pki", "workload", "--cluster", cluster, service, "-d", m.pki(cluster), "-o", m.path(name, "pki"), "--force")
	}
}

func TestTheRootEveryIntermediateAndEveryLeafAreReplacedUnderLoadAndNoPostFails(t *testing.T) {
	m := newMesh(t, "east", "west")
	m.gateway("west", "west-1")
	m.gateway("east", "east-1")
	workloads := map[string]string{"caller-1": "east shop/caller"}
	for i := range 2 {
		name := fmt.Sprintf("orders-%d", i+1)
		m.replica("west", name, 250*time.Millisecond)
		workloads[name] = "west shop/orders"
	}
	caller := m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/orders")
	want := map[string]uint32{"west shop/orders": 2}
	m.settled(want)
	url := "http://" + caller.listener + "/"
	m.serves(url)
	stream := m.tcpPair("echo")

	l := posts(t, url, 50) // 200 a second
	m.rotate()
	m.rotate()
	_, err := harness.Isthmus(binary, "pki", "rotate", "-d", m.path("pki"), "--admin", m.gateways[0].admin)
	if err == nil || !strings.Contains(err.Error(), "gateway east/east-1 has a certificate under root") || !strings.Contains(err.Error(), "sa/caller has a certificate under root") {
		t.Errorf("the old root is retired while it is in use: %v", err)
	}
	m.reissue(map[string]string{"echo": "west shop/echo", "echo-caller": "east shop/echo-caller"})
	m.reissue(workloads)
	m.rotate()
	m.rotate()
	m.settled(want)
	l.end()
	stream.echoes("after the rotation")
	m.eventually(func() error { // a gateway hears of the others' sidecars every ten seconds
		for _, g := range m.gateways {
			s, err := g.status()
			if err != nil {
				return err
			}
			if tr := s.Trust[0]; tr.Bundle != 2 || len(tr.Lacking) != 0 || len(tr.Roots) != 2 || !tr.Roots[1].Retired {
				return fmt.Errorf("%s: %+v", g.name, tr)
			}
		}
		return nil
	})
}

func TestTwoTrustDomainsThatPinEachOtherFollowARotationAndNoPostFails(t *testing.T) {
	m := newMesh(t, "east")
	other := m.path("other")
	m.isthmus("pki", "init", "--trust-domain", "other.example", "-d", other)
	m.isthmus("pki", "cluster", "west", "-d", other)
	m.foreign = map[string]string{"west": other}
	pins := func(domain, cluster string) string {
		pin := strings.TrimSpace(m.isthmus("pki", "fingerprint", filepath.Join(m.pki(cluster), "root.pem")))
		return fmt.Sprintf("trustDomains: [{name: %s, clusters: [%s], fingerprint: %q}]\n", domain, cluster, pin)
	}
	m.domains = map[string]string{"east": pins("other.example", "west"), "west": pins("e2e.example", "east")}
	m.gateway("west", "west-1")
	m.gateway("east", "east-1")
	m.resource("west", "orders", "apiVersion: isthmus.io/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: orders}\n"+
		"spec: {allow: [\"spiffe://e2e.example/cluster/east/ns/shop/sa/caller\"]}\n")
	m.replica("west", "orders-1", 100*time.Millisecond)
	caller := m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/orders")
	m.settled(map[string]uint32{"west shop/orders": 1})
	// Sidecars know the other's roots by its bundle: it takes one, whatever it says.
	for i, td := range []string{"other.example", "e2e.example"} {
		g := m.gateways[i]
		m.isthmus("pki", "revoke", "spiffe://"+td+"/cluster/"+g.cluster+"/ns/shop/sa/nobody", "-d", m.pki(g.cluster), "--admin", g.admin)
	}
	url := "http://" + caller.listener + "/"
	m.serves(url)

	l := posts(t, url, 20)
	m.rotate()
	m.rotate()
	m.reissue(map[string]string{"orders-1": "west shop/orders"})
	m.rotate()
	m.rotate()
	m.eventually(func() error {
		s, err := m.gateways[1].status()
		if err != nil {
			return err
		}
		for _, tr := range s.Trust {
			if tr.Domain == "other.example" && tr.Bundle == 3 && len(tr.Lacking) == 0 {
				return nil
			}
		}
		return fmt.Errorf("east has not followed: %+v", s.Trust)
	})
	m.serves(url)
	l.end()
}

func TestOneIntermediateIsReplacedUnderLoadAndTheOldOneIsRevoked(t *testing.T) {
	m := newMesh(t, "east", "west")
	m.gateway("west", "west-1")
	m.gateway("east", "east-1")
	m.replica("west", "orders-1", 250*time.Millisecond)
	caller := m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/orders")
	want := map[string]uint32{"west shop/orders": 1}
	m.settled(want)
	url := "http://" + caller.listener + "/"
	m.serves(url)
	old := strings.TrimSpace(m.isthmus("pki", "fingerprint", m.path("pki", "west", "ca.pem")))
	m.isthmus("pki", "rotate", "--cluster", "west", "-d", m.path("pki"))
	m.reissue(map[string]string{"orders-1": "west shop/orders"})
	m.eventually(func() error { // both have read theirs
		for _, name := range []string{"west-1", "orders-1"} {
			if b, err := os.ReadFile(m.path(name + ".log")); err != nil || !bytes.Contains(b, []byte("identity replaced")) {
				return fmt.Errorf("%s still has its old certificate", name)
			}
		}
		return nil
	})
	m.isthmus("pki", "revoke", old, "-d", m.path("pki"), "--admin", m.gateways[0].admin)
	m.settled(want) // with new connections
	m.serves(url)
}

func TestARevokedClusterIsOutOfTheMeshWithItsOpenConnections(t *testing.T) {
	m := newMesh(t, "east", "north", "west")
	m.gateway("east", "east-1")
	m.gateway("north", "north-1")
	m.gateway("west", "west-1")
	m.replica("north", "orders-n", 0)
	m.replica("west", "orders-w", 0)
	caller := m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/orders")
	stream := m.tcpPair("echo")
	m.settled(map[string]uint32{"west shop/orders": 1, "north shop/orders": 1})
	url := "http://" + caller.listener + "/"
	m.serves(url)
	stream.echoes("before")

	l := posts(t, url, 10)
	begun := time.Now()
	m.isthmus("pki", "revoke", "west", "-d", m.path("pki"), "--admin", m.gateways[1].admin)
	if err := stream.ended(); err != nil {
		t.Error(err)
	}
	t.Logf("the last byte of a connection that was open came %v after", time.Since(begun).Round(time.Millisecond))
	m.eventually(func() error {
		for _, g := range m.gateways[:2] {
			s, err := g.status()
			if err != nil {
				return err
			}
			for _, p := range s.Gateways {
				if p.ID.Cluster == "west" && p.Tunnel != "down" {
					return fmt.Errorf("%s still has a tunnel to %s", g.name, p.ID)
				}
			}
			for _, o := range s.Origins {
				if o.Origin.Cluster == "west" {
					return fmt.Errorf("%s still holds the catalog of %s", g.name, o.Origin)
				}
			}
		}
		return nil
	})
	t.Logf("the others have nothing of it any more %v after", time.Since(begun).Round(time.Millisecond))
	for range 20 {
		if code, body, err := get(url); err != nil || code != 200 || body != "orders-n" {
			t.Errorf("answered %d %q, %v", code, body, err)
		}
	}
	l.end("502") // what was on its way to it
	_, err := harness.Isthmus(binary, "status", "--admin", m.gateways[2].admin)
	if err == nil || !strings.Contains(err.Error(), "is revoked, by the entry ") { // it has the bundle, or the others have told it
		t.Errorf("the gateway that is out says: %v", err)
	}
}

func TestARevokedClusterIsToldSoAndComesBackWhenItIsLetInAgain(t *testing.T) {
	m := newMesh(t, "east", "west")
	m.gateway("east", "east-1")
	m.gateway("west", "west-1")
	m.replica("east", "orders-e", 0)
	caller := m.sidecar("west", "caller-1", "shop/caller", "", "", "shop/orders")
	m.settled(map[string]uint32{"east shop/orders": 1})
	url := "http://" + caller.listener + "/"
	m.serves(url)

	const cluster, why = "spiffe://e2e.example/cluster/west", "this identity was revoked (bundle 1)"
	m.isthmus("pki", "revoke", cluster, "-d", m.path("pki"), "--admin", m.gateways[0].admin)
	for _, admin := range []string{m.gateways[1].admin, caller.admin} {
		m.eventually(func() error {
			if _, err := harness.Isthmus(binary, "status", "--admin", admin); err == nil || !strings.Contains(err.Error(), why) {
				return fmt.Errorf("%s does not say that it is revoked: %w", admin, err)
			}
			return nil
		})
	}
	if code, body, err := get(url); err != nil || code != 503 || !strings.Contains(body, why) {
		t.Errorf("a call through a sidecar that is revoked: %d %q, %v", code, body, err)
	}
	m.isthmus("pki", "revoke", "--lift", cluster, "-d", m.path("pki"), "--admin", m.gateways[0].admin)
	m.settled(map[string]uint32{"east shop/orders": 1})
	m.serves(url)
}

// tcpStream is a connection that is open to a program of another cluster.
type tcpStream struct {
	m    *testMesh
	conn net.Conn
	r    *bufio.Reader
}

// tcpPair starts an echo program in west and a caller of it in east, with one connection.
func (m *testMesh) tcpPair(name string) *tcpStream {
	m.t.Helper()
	m.sidecar("west", name, "shop/"+name, "tcp", echoes(m.t), "")
	caller := m.sidecar("east", name+"-caller", "shop/"+name+"-caller", "", "", "shop/"+name)
	m.settled(map[string]uint32{"west shop/" + name: 1})
	s := &tcpStream{m: m}
	m.eventually(func() error {
		c, err := net.DialTimeout("tcp", caller.listener, limit)
		if err != nil {
			return err
		}
		s.conn, s.r = c, bufio.NewReader(c)
		return s.echo("hello")
	})
	m.t.Cleanup(func() { _ = s.conn.Close() })
	return s
}

func (s *tcpStream) echo(text string) error {
	_ = s.conn.SetDeadline(time.Now().Add(limit))
	if _, err := fmt.Fprintln(s.conn, text); err != nil {
		return err
	}
	got, err := s.r.ReadString('\n')
	if err == nil && strings.TrimSpace(got) != text {
		err = fmt.Errorf("%q came back for %q", got, text)
	}
	return err
}

// echoes fails the test unless the connection works.
func (s *tcpStream) echoes(text string) {
	s.m.t.Helper()
	if err := s.echo(text); err != nil {
		s.m.t.Errorf("a connection that was open: %v", err)
	}
}

// ended waits for the end of the connection.
func (s *tcpStream) ended() error {
	_ = s.conn.SetDeadline(time.Now().Add(limit))
	_, err := s.r.ReadByte()
	if e, ok := err.(net.Error); ok && e.Timeout() {
		return fmt.Errorf("the connection is still open: %w", err)
	}
	return nil
}
