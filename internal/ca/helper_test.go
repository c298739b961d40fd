package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	securityv1 "istio.io/api/security/v1alpha1"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

// testCluster is a cluster's PKI on disk.
type testCluster struct {
	t    *testing.T
	root *identity.Authority
	west *identity.Authority
	dir  string // of the intermediate
}

func newTestCluster(t *testing.T) *testCluster {
	t.Helper()
	root, err := identity.NewRoot("mesh.example", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := &testCluster{t: t, root: root, dir: t.TempDir()}
	c.west = c.cluster(nil)
	return c
}

// cluster makes an intermediate, in its directory; nil: the first of the cluster.
func (c *testCluster) cluster(replaces *identity.Authority) *identity.Authority {
	c.t.Helper()
	a, err := c.root.NewCluster("west", nil, time.Hour)
	if replaces != nil {
		a, err = c.root.RenewCluster(replaces, nil, time.Hour)
	}
	if err == nil {
		err = a.Save(c.dir, true)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// config returns the configuration of a CA of the cluster.
func (c *testCluster) config(name, state string) *config.CA {
	return &config.CA{
		Name: name, Authority: filepath.Join(c.dir, "west"), TTL: 24 * time.Hour, State: state, DNSNames: []string{"ca.example"},
		Listen: config.CAListen{GRPC: "127.0.0.1:0", Admin: "127.0.0.1:0"}, Drain: time.Second,
		Audit: config.Audit{File: filepath.Join(filepath.Dir(state), "audit-"+name)},
	}
}

// testCA is a process that runs.
type testCA struct {
	*CA
	t    *testing.T
	addr string
	end  func() // and waits
}

func (c *testCluster) start(cfg *config.CA) *testCA {
	c.t.Helper()
	serving := make(chan struct{})
	ca, err := New(cfg, Options{Serving: func() error { close(serving); return nil }})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ca.Run(ctx) }()
	select {
	case <-serving:
	case err := <-ended:
		c.t.Fatal(err)
	}
	var once atomic.Bool
	end := func() {
		cancel()
		if once.CompareAndSwap(false, true) {
			if err := <-ended; err != nil {
				c.t.Errorf("run: %v", err)
			}
		}
	}
	c.t.Cleanup(end)
	return &testCA{CA: ca, t: c.t, addr: ca.port.Addr().String(), end: end}
}

// ca starts a CA with a state directory of its own.
func (c *testCluster) ca(name string) *testCA {
	c.t.Helper()
	return c.start(c.config(name, filepath.Join(c.t.TempDir(), "state")))
}

// token makes a token for ca-1.
func (c *testCluster) token(id identity.ID) string {
	c.t.Helper()
	text, _, err := c.west.NewToken(id, "ca-1", time.Minute)
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

var (
	orders = identity.ID{TrustDomain: "mesh.example", Cluster: "west", Namespace: "shop", ServiceAccount: "orders"}
	west1  = identity.ID{TrustDomain: "mesh.example", Cluster: "west", Gateway: "west-1"}
)

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// csrOf makes a request that names uris.
func csrOf(t *testing.T, key crypto.Signer, uris ...string) string {
	t.Helper()
	r := &x509.CertificateRequest{}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		r.URIs = append(r.URIs, u)
	}
	return csrFrom(t, r, key)
}

func csrFrom(t *testing.T, r *x509.CertificateRequest, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// ask makes one call, over a connection of its own.
func (ca *testCA) ask(config *tls.Config, token string, r *securityv1.IstioCertificateRequest) ([]*x509.Certificate, error) {
	ca.t.Helper()
	conn, err := grpc.NewClient(ca.addr, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		ca.t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ca.t.Context(), time.Minute)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token, "ClusterID", "Kubernetes")
	}
	answer, err := securityv1.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx, r)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for _, text := range answer.CertChain {
		block, rest := pem.Decode([]byte(text))
		if block == nil || len(rest) > 0 {
			ca.t.Fatalf("%q is not one PEM block", text)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			ca.t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// redeem asks with a token, as who has nothing else does.
func (ca *testCA) redeem(token string, r *securityv1.IstioCertificateRequest) ([]*x509.Certificate, error) {
	ca.t.Helper()
	t, err := identity.ReadToken(token)
	if err != nil {
		ca.t.Fatal(err)
	}
	return ca.ask(t.FirstTrust().ClientTLS("h2"), token, r)
}

// source makes an identity of an issued chain.
func source(t *testing.T, chain []*x509.Certificate, key crypto.Signer) *identity.Source {
	t.Helper()
	s, err := identity.New(identity.Material{Chain: chain[:2], Key: key, Roots: chain[2:]}, identity.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantCode fails the test unless err is a refusal of the code that says want.
func wantCode(t *testing.T, what string, err error, code codes.Code, want string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), want) {
		t.Errorf("%s: %v\nwant %s with %q", what, err, code, want)
	}
}

// audited returns what the CA has written down so far.
func (ca *testCA) audited() string {
	ca.t.Helper()
	b, err := os.ReadFile(ca.cfg.Audit.File)
	if err != nil {
		ca.t.Fatal(err)
	}
	return string(b)
}
