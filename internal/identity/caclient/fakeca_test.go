package caclient

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	auth "istio.io/api/security/v1alpha1"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var orders = identity.ID{Namespace: "shop", ServiceAccount: "orders"}

// fakeCA issues by Istio's protocol, for tokens and certificates of its cluster.
type fakeCA struct {
	auth.UnimplementedIstioCertificateServiceServer
	authority *identity.Authority
	listener  *bufconn.Listener

	mu       sync.Mutex
	ttl      time.Duration
	used     map[string]string // token's serial: the key that it is used up for
	requests []string          // "token" or "certificate", and whose
	fault    func() error      // instead of an answer that was made; nil: none
	chain    []string          // instead of what was asked for; nil: that
	issues   *identity.ID      // instead of whom it was asked for; nil: that
}

// world is one cluster with CAs by their addresses, all in memory.
type world struct {
	t         *testing.T
	mesh      *identitytest.Mesh
	authority *identity.Authority
	cas       map[string]*fakeCA
	dir       string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	m := identitytest.New(t, "mesh.example")
	return &world{t: t, mesh: m, authority: m.Cluster("west"), cas: map[string]*fakeCA{}, dir: t.TempDir()}
}

// serve starts a CA at an address until the test ends. credential is whom it shows.
func (w *world) serve(address string, credential *identity.Credential) *fakeCA {
	w.t.Helper()
	source, err := credential.Source()
	if err != nil {
		w.t.Fatal(err)
	}
	ca := &fakeCA{authority: w.authority, listener: bufconn.Listen(1 << 20), ttl: time.Hour, used: map[string]string{}}
	w.cas[address] = ca
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(source.OpenServerTLS(identity.AnyMember(), "h2"))))
	auth.RegisterIstioCertificateServiceServer(server, ca)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ca.listener) })
	w.t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	return ca
}

// ca starts a genuine CA.
func (w *world) ca(address string) *fakeCA {
	w.t.Helper()
	c, err := w.authority.IssueCA("west-ca", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.serve(address, c)
}

// client asks the CAs of the addresses; it is orders, with its files in the world's directory.
func (w *world) client(addresses ...string) *Client {
	return New(Config{
		Addresses: addresses, TokenFile: w.path("token"), StateFile: w.path("identity.pem"),
		Accept: func(identity.ID) error { return nil }, Command: "isthmus pki token --workload shop/orders",
		Log: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			if ca := w.cas[address]; ca != nil {
				return ca.listener.DialContext(ctx)
			}
			return nil, errors.New("connection refused")
		},
	})
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// token puts a token for id into the token file.
func (w *world) token(id identity.ID) {
	w.t.Helper()
	text, _, err := w.authority.NewToken(id, "west-ca", identity.DefaultTokenTTL)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path("token"), []byte(text+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (ca *fakeCA) CreateCertificate(ctx context.Context, r *auth.IstioCertificateRequest) (*auth.IstioCertificateResponse, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	block, _ := pem.Decode([]byte(r.Csr))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	id, err := ca.caller(ctx, string(csr.RawSubjectPublicKeyInfo))
	if err != nil {
		return nil, err
	}
	if ca.issues != nil {
		id = *ca.issues
	}
	istio := len(csr.URIs) == 2
	chain, err := ca.authority.Certify(identity.Request{ID: id, TTL: ca.ttl, Istio: istio}, csr.PublicKey)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if ca.fault != nil {
		if err := ca.fault(); err != nil {
			return nil, err
		}
	}
	if ca.chain != nil {
		return &auth.IstioCertificateResponse{CertChain: ca.chain}, nil
	}
	return &auth.IstioCertificateResponse{CertChain: texts(append(chain, ca.authority.Roots()...))}, nil
}

func (ca *fakeCA) caller(ctx context.Context, key string) (identity.ID, error) {
	p, _ := peer.FromContext(ctx)
	cs := p.AuthInfo.(credentials.TLSInfo).State
	if len(cs.PeerCertificates) > 0 {
		id, err := identity.PeerID(cs)
		ca.requests = append(ca.requests, "certificate "+id.ServiceAccount)
		return id, err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	text := strings.TrimPrefix(strings.Join(md.Get("authorization"), ""), "Bearer ")
	if account, ends, err := readServiceAccountToken(text); err == nil {
		ca.requests = append(ca.requests, "account "+account.ServiceAccount)
		if !time.Now().Before(ends) {
			return account, status.Error(codes.Unauthenticated, "the token has ended")
		}
		return account, nil
	}
	t, err := ca.authority.VerifyToken(text, time.Now())
	if err != nil {
		return t.ID, status.Error(codes.Unauthenticated, err.Error())
	}
	ca.requests = append(ca.requests, "token "+t.ID.ServiceAccount)
	if by, ok := ca.used[t.Serial]; ok && by != key {
		return t.ID, status.Error(codes.Unauthenticated, "the token is used up")
	}
	ca.used[t.Serial] = key
	return t.ID, nil
}

func (ca *fakeCA) change(f func(*fakeCA)) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	f(ca)
}

func (ca *fakeCA) asked() string {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return strings.Join(ca.requests, ", ")
}

func texts(chain []*x509.Certificate) (all []string) {
	for _, c := range chain {
		all = append(all, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
	}
	return all
}

// gateway is a credential that is no CA's.
func (w *world) gateway(name mesh.GatewayName) *identity.Credential {
	w.t.Helper()
	c, err := w.authority.Issue(identity.Request{ID: identity.ID{Gateway: name}})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}
