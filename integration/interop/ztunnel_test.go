package interop

import (
	"bufio"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/hosts"
	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/process"
	isthmus "github.com/isthmus-mesh/isthmus/sidecar/proxy"
)

// ztunnelBinary returns the path of a ztunnel. Without one the test is skipped, in CI too.
func ztunnelBinary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("ISTHMUS_ZTUNNEL"); path != "" {
		return path
	}
	path, err := exec.LookPath("ztunnel")
	if err != nil {
		t.Skip("no ztunnel: name one by ISTHMUS_ZTUNNEL (doc.go says how to build it)")
	}
	if os.Geteuid() != 0 {
		harness.Lacking(t, "network namespaces need root")
	}
	return path
}

// The hosts of the test.
var lan = hosts.Network{Name: "lan", Number: 77}

const (
	ours   = "ours"   // of the sidecar and the CA
	istios = "istios" // of the ztunnel
)

func newHost(t *testing.T, name string, number int) *hosts.Host {
	t.Helper()
	h, err := hosts.New(name, lan, number)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Remove() })
	return h
}

// at runs f in the network of a host.
func at(host string) func(func() error) error {
	return func(f func() error) error { return hosts.Within(host, f) }
}

func listenAt(t *testing.T, host, addr string) (l net.Listener) {
	t.Helper()
	if err := hosts.Within(host, func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return l
}

// dialFrom dials in the network of a host.
func dialFrom(host string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = hosts.Within(host, func() (err error) {
			c, err = new(net.Dialer).DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}
}

// issues runs a CA on our host and returns its port.
func (a *authorities) issues(addr string) {
	t := a.t
	t.Helper()
	dir := t.TempDir()
	if err := a.cluster.Save(dir, true); err != nil {
		t.Fatal(err)
	}
	cfg := &config.CA{
		Name: "ca-1", Authority: filepath.Join(dir, "east"), TTL: time.Hour, State: filepath.Join(dir, "state"), DNSNames: []string{"ca.mesh.example"},
		Listen: config.CAListen{GRPC: addr, Admin: "127.0.0.1:0"}, Drain: time.Second, Audit: config.Audit{File: filepath.Join(dir, "audit")},
	}
	serving := make(chan struct{})
	authority, err := ca.New(cfg, ca.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Serving: func() error { close(serving); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- at(ours)(func() error { return authority.Run(ctx) }) }()
	select {
	case <-serving:
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); <-ended })
}

func TestAZtunnelCallsAWorkloadAndIsCalledByOne(t *testing.T) {
	binary := ztunnelBinary(t)
	if err := hosts.PlugSwitch(lan); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hosts.IP("", "netns delete "+hosts.Namespace(hosts.TheSwitch)) })
	here, there := newHost(t, ours, 1), newHost(t, istios, 2)
	mesh, id := newAuthorities(t), identity.ID{TrustDomain: "mesh.example", Cluster: "east", Namespace: "shop", ServiceAccount: "client"}
	mesh.issues(here.Address() + ":15010")

	// A workload of ours, whose programs are beside its sidecar.
	echo, web := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	echoes(t, echo)
	serves(t, web)
	server := mesh.workload("server")
	run(t, isthmus.Config{Identity: server, Inbound: &isthmus.Inbound{
		Listen: here.Address() + ":15008", Ports: served(t, echo.Addr().String(), web.Addr().String()),
	}}, at(ours))

	// One of Istio's.
	itsEcho, itsWeb := listenAt(t, istios, there.Address()+":0"), listenAt(t, istios, there.Address()+":0")
	echoes(t, itsEcho)
	serves(t, itsWeb)
	startZtunnel(t, there, binary, mesh, id, fmt.Sprintf(ztunnelConfig, there.Address(), port(itsEcho), port(itsWeb), here.Address()))

	t.Run("it calls", func(t *testing.T) {
		socks, err := proxy.SOCKS5("tcp", "127.0.0.1:15080", nil, within{istios})
		if err != nil {
			t.Fatal(err)
		}
		callsBoth(t, func(l net.Listener) (net.Conn, error) {
			return socks.Dial("tcp", net.JoinHostPort(here.Address(), port(l)))
		}, echo, web, "URI="+id.String())
	})
	t.Run("it is called", func(t *testing.T) {
		toEcho, toWeb := "127.0.0.1:"+free(t), "127.0.0.1:"+free(t)
		run(t, calling(t, server, []string{id.String()}, there.Address()+":15008", toEcho, toWeb, dialFrom(ours)), atHome)
		addresses := map[net.Listener]string{itsEcho: toEcho, itsWeb: toWeb}
		callsBoth(t, func(l net.Listener) (net.Conn, error) { return net.Dial("tcp", addresses[l]) }, itsEcho, itsWeb, "")
	})
}

// callsBoth calls the two programs by what dial gives.
func callsBoth(t *testing.T, dial func(net.Listener) (net.Conn, error), echo, web net.Listener, caller string) {
	t.Helper()
	for range 3 {
		c, err := dial(echo)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(limit))
		message := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
		go func() {
			_, _ = io.WriteString(c, message)
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
		}()
		if b, err := io.ReadAll(c); string(b) != message || err != nil {
			t.Fatalf("the echo of %d bytes is %d bytes, %v", len(message), len(b), err)
		}
	}
	c, err := dial(web)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	br := bufio.NewReader(c)
	for _, path := range []string{"/a", "/b"} {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: web.shop.mesh\r\nX-Forwarded-Client-Cert: URI=spiffe://mesh.example/cluster/east/ns/shop/sa/admin\r\n\r\n", path)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 || string(b) != "served "+path || err != nil {
			t.Fatalf("%d %q, %v", resp.StatusCode, b, err)
		}
		if got := resp.Header.Get("Caller"); caller != "" && !strings.HasSuffix(got, caller) {
			t.Errorf("the program is told that %q calls, want %s", got, caller)
		}
	}
}

// within dials in the network of a host.
type within struct{ host string }

func (w within) Dial(network, addr string) (net.Conn, error) {
	return dialFrom(w.host)(context.Background(), network, addr)
}

func port(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// free returns a port that is free now.
func free(t *testing.T) string {
	l := listen(t, "127.0.0.1:0")
	defer l.Close()
	return port(l)
}

// ztunnelConfig is what istiod would say: its own workload with two services, and ours.
const ztunnelConfig = `
workloads:
- uid: east//v1/Pod/shop/client
  name: client
  namespace: shop
  serviceAccount: client
  trustDomain: mesh.example
  workloadIps: ["%[1]s"]
  protocol: HBONE
  node: local
  services:
    "shop/echo.shop.mesh": {7: %[2]s}
    "shop/web.shop.mesh": {80: %[3]s}
- uid: east//v1/Pod/shop/server
  name: server
  namespace: shop
  serviceAccount: server
  trustDomain: mesh.example
  workloadIps: ["%[4]s"]
  protocol: HBONE
  node: elsewhere
  services: {}
services:
- name: echo
  namespace: shop
  hostname: echo.shop.mesh
  vips: ["/10.77.1.1"]
  ports: {7: %[2]s}
- name: web
  namespace: shop
  hostname: web.shop.mesh
  vips: ["/10.77.1.2"]
  ports: {80: %[3]s}
`

// startZtunnel starts a ztunnel that is dedicated to the workload id, and waits until it is
// ready.
func startZtunnel(t *testing.T, on *hosts.Host, binary string, mesh *authorities, id identity.ID, local string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token, _, err := mesh.cluster.NewToken(id, "ca-1", 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mesh.root.Certificate().Raw})
	argv := []string{
		"env", "PROXY_MODE=dedicated", "PROXY_WORKLOAD_INFO=" + strings.Join([]string{id.Namespace, "client", id.ServiceAccount}, "/"),
		"LOCAL_XDS_PATH=" + write("xds.yaml", local), "XDS_ADDRESS=", "NETWORK=", "NODE_NAME=local", "IPV6_ENABLED=false", "ENABLE_ORIG_SRC=false",
		"CA_ADDRESS=https://" + lan.V4(1) + ":15010", "ALT_CA_HOSTNAME=ca.mesh.example", "CA_ROOT_CA=" + write("roots.pem", string(roots)), "AUTH_TOKEN=" + write("token", token),
		"UNSTABLE_ENABLE_SOCKS5=true", "RUST_LOG=info,ztunnel=debug", binary,
	}
	if err := os.MkdirAll(hosts.Dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(hosts.Dir()) })
	spawner := process.NewSpawner()
	t.Cleanup(spawner.Close)
	if _, err := on.Start(spawner, "ztunnel", argv...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(on.Logs())
		}
		_ = on.End()
	})
	if err := harness.Eventually(func() error {
		c, err := within{istios}.Dial("tcp", "127.0.0.1:15021")
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(limit))
		fmt.Fprint(c, "GET /healthz/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil && resp.StatusCode != 200 {
			err = fmt.Errorf("it answers %s", resp.Status)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
