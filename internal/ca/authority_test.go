package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	securityv1 "istio.io/api/security/v1alpha1"

	"github.com/isthmus-mesh/isthmus/gateway/bundles"
	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

func TestAnotherIntermediateOfTheClusterIsUsedAndAnotherClustersIsNot(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	own := &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))}
	old := c.token(orders)
	newer := c.cluster(c.west) // into the same directory
	if err := ca.takeAuthority(ca.identity); err != nil {
		t.Fatal(err)
	}
	_, err := ca.redeem(old, own)
	wantCode(t, "a token of the intermediate before", err, codes.Unauthenticated, "not made with the key of this CA")
	c.west = newer
	chain, err := ca.redeem(c.token(orders), own)
	if err != nil || identity.FingerprintOf(chain[1]) != newer.Fingerprint() {
		t.Errorf("issued by %v, %v", chain, err)
	}
	for what, a := range map[string]*identity.Authority{"another cluster": eastOf(t, c), "another mesh": newTestCluster(t).west} {
		dir := t.TempDir()
		if err := a.Save(dir, true); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"ca.pem", "ca-key.pem", "roots.pem"} {
			b, err := os.ReadFile(filepath.Join(dir, string(a.Cluster()), name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(ca.cfg.Authority, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := ca.takeAuthority(ca.identity)
		if what == "another cluster" && err == nil || !ca.authority.Load().Same(a) && err == nil {
			t.Errorf("%s is taken: %v", what, err)
		}
	}
	if a := ca.authority.Load(); a.Cluster() != "west" {
		t.Errorf("it issues for %s", a.Cluster())
	}
}

func TestAnAuthorityThatCannotIssueIsNamedByItsKey(t *testing.T) {
	c := newTestCluster(t)
	cfg := c.config("ca-1", filepath.Join(t.TempDir(), "state"))
	for what, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"nothing there":         {os.RemoveAll, "ca.pem: no such file or directory: make them with 'isthmus pki cluster'"},
		"a key for all to read": {func(dir string) error { return os.Chmod(filepath.Join(dir, "ca-key.pem"), 0o644) }, "everybody may read this private key"},
		"roots of another mesh": {func(dir string) error {
			b, err := os.ReadFile(filepath.Join(newTestCluster(t).dir, "west", "roots.pem"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "roots.pem"), b, 0o600)
		}, "none of the 1 roots in roots.pem signed it"},
	} {
		dir := filepath.Join(t.TempDir(), "west")
		if err := os.CopyFS(dir, os.DirFS(cfg.Authority)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, "ca-key.pem"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.spoil(dir); err != nil {
			t.Fatal(err)
		}
		bad := *cfg
		bad.Authority = dir
		_, err := New(&bad, Options{})
		for _, err := range []error{err, Check(&bad)} {
			if err == nil || !strings.HasPrefix(err.Error(), "authority: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", what, err, c.want)
			}
		}
	}
}

func TestWhoIsRevokedGetsNoCertificateAndLosesItsConnection(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	cred, err := c.west.Issue(identity.Request{ID: orders})
	if err != nil {
		t.Fatal(err)
	}
	s, err := cred.Source()
	if err != nil {
		t.Fatal(err)
	}
	open, err := tls.Dial("tcp", ca.addr, s.ClientTLS("", identity.CAOf("mesh.example", "west"), "h2"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := os.WriteFile(filepath.Join(ca.cfg.Authority, "bundle.json"), c.revoking(1, orders.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ca.takeAuthority(ca.identity); err != nil {
		t.Fatal(err)
	}
	csr := &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))}
	_, err = ca.redeem(c.token(orders), csr)
	wantCode(t, "with a token", err, codes.PermissionDenied, "nobody would accept it")
	_, err = ca.ask(s.ClientTLS("", identity.CAOf("mesh.example", "west"), "h2"), "", csr)
	wantCode(t, "renewal", err, codes.Unavailable, "")
	_, _, refused := ca.answer(t.Context(), caller{state: tls.ConnectionState{PeerCertificates: cred.Material().Chain}}, csr, time.Now())
	if refused == nil || refused.code != codes.Unauthenticated || !strings.Contains(refused.err.Error(), "revoked") {
		t.Errorf("on an open connection: %v", refused)
	}
	// HTTP/2 settings and their like come first, then the end.
	_ = open.SetReadDeadline(time.Now().Add(time.Minute))
	for b := make([]byte, 1024); err == nil || !isOver(err); {
		if _, err = open.Read(b); err != nil && !isOver(err) {
			t.Fatalf("its connection stays: %v", err)
		}
	}
	if _, err := ca.redeem(c.token(west1), csr); err != nil {
		t.Errorf("somebody else: %v", err)
	}
}

// isOver reports whether the peer has ended the connection.
func isOver(err error) bool {
	timeout, ok := err.(net.Error)
	return err != nil && (!ok || !timeout.Timeout())
}

func TestAReloadPutsTheTTLInForceAndNamesWhatWaits(t *testing.T) {
	c := newTestCluster(t)
	cfg := c.config("ca-1", filepath.Join(t.TempDir(), "state"))
	next := *cfg
	next.TTL, next.Name = time.Minute, "ca-9"
	serving := make(chan struct{})
	ca, err := New(cfg, Options{Serving: func() error { close(serving); return nil }, Configuration: func() (*config.CA, error) { return &next, nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ca.Run(ctx) }()
	<-serving
	verdict := ca.Reload(t.Context())
	if got := verdict.String(); got != "reloaded: ttl; these keys wait for a restart: name" {
		t.Error(got)
	}
	if s := ca.Status(); s.TTL != 60 || !s.Ready || s.ID != "spiffe://mesh.example/cluster/west/ca/ca-1" || len(s.Problems(time.Now())) != 1 {
		t.Errorf("%+v, %v", s, s.Problems(time.Now()))
	}
	drained, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := ca.Shutdown(drained); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSilentStrangersDoNotKeepAWorkloadFromItsCertificate(t *testing.T) {
	c := newTestCluster(t)
	ca := c.ca("ca-1")
	for range 200 { // more than the calls and half of the handshakes that wait at a time
		silent, err := net.Dial("tcp", ca.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
	}
	if _, err := ca.redeem(c.token(orders), &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))}); err != nil {
		t.Error(err)
	}
}

// gateway serves bundles to the CAs of the cluster.
func (c *testCluster) gateway() (gateway *identity.Source, told *bundles.Server, address string) {
	c.t.Helper()
	cred, err := c.west.Issue(identity.Request{ID: west1})
	if err != nil {
		c.t.Fatal(err)
	}
	if gateway, err = cred.Source(); err != nil {
		c.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(gateway.ServerTLS(identity.WorkloadOrCAOf("west"), "h2"))))
	told = bundles.New(gateway.Trust(), nil)
	told.Attach(server)
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(ln) }()
	c.t.Cleanup(func() {
		server.Stop()
		if err := <-serving; err != nil {
			c.t.Error(err)
		}
	})
	return gateway, told, ln.Addr().String()
}

// revoking is a bundle that has somebody revoked.
func (c *testCluster) revoking(number uint64, what string) []byte {
	c.t.Helper()
	b, err := identity.Bundle{TrustDomain: "mesh.example", Number: number, Roots: []*x509.Certificate{c.root.Certificate()}, Revoked: []identity.Revocation{{What: what}}}.Sign(c.root)
	if err != nil {
		c.t.Fatal(err)
	}
	return b.Bytes()
}

func TestACALeavesAGatewayThatIsRevokedWhileItHears(t *testing.T) {
	c := newTestCluster(t)
	_, told, address := c.gateway()
	cfg := c.config("ca-1", filepath.Join(t.TempDir(), "state"))
	cfg.Gateways = []string{address}
	ca := c.start(cfg)
	eventually(t, func() error {
		if all := told.Sidecars(); len(all) != 1 {
			return fmt.Errorf("%d follow the gateway", len(all))
		}
		return nil
	})
	if _, err := ca.identity.Trust().Accept(c.revoking(1, west1.String())); err != nil { // from another gateway
		t.Fatal(err)
	}
	eventually(t, func() error {
		if all := told.Sidecars(); len(all) != 0 {
			return errors.New("the CA still follows the gateway that was revoked")
		}
		if p := ca.Status().Gateways; len(p) != 1 || !strings.Contains(p[0].LastError, "revoked") {
			return fmt.Errorf("its status says %+v", p)
		}
		return nil
	})
}

func TestACAHearsOfRevocationsFromTheGatewaysOfItsCluster(t *testing.T) {
	c := newTestCluster(t)
	gateway, told, address := c.gateway()
	cfg := c.config("ca-1", filepath.Join(t.TempDir(), "state"))
	cfg.Gateways = []string{address}
	ca := c.start(cfg)
	csr := &securityv1.IstioCertificateRequest{Csr: csrOf(t, newKey(t))}
	if _, err := ca.redeem(c.token(orders), csr); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if p := ca.Status().Problems(time.Now()); len(p) > 0 {
			return errors.New(strings.Join(p, "; "))
		}
		return nil
	})
	if _, err := gateway.Trust().Accept(c.revoking(1, orders.String())); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if ca.identity.Trust().Held()["mesh.example"] != 1 {
			return errors.New("the CA has not heard of the bundle")
		}
		if all := told.Sidecars(); len(all) != 1 || all[0].ID != ca.identity.ID().String() || all[0].Held["mesh.example"] != 1 {
			return fmt.Errorf("the gateway does not know that: %+v", all)
		}
		return nil
	})
	_, err := ca.redeem(c.token(orders), csr)
	wantCode(t, "with a token", err, codes.PermissionDenied, "nobody would accept it")
	ca.end()
	cfg.Gateways = nil
	ca = c.start(cfg) // it remembers
	_, err = ca.redeem(c.token(orders), csr)
	wantCode(t, "after a restart", err, codes.PermissionDenied, "nobody would accept it")
}

// eventually waits until check passes.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	if err := harness.Eventually(check); err != nil {
		t.Fatal(err)
	}
}
