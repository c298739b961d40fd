package workloadapi

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	workload "github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

// agent is a SPIFFE Workload API on a socket: it sends what it has, and what it is given
// later, as SPIRE's agent does.
type agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	t      *testing.T
	socket string

	mu      sync.Mutex
	now     *workload.X509SVIDResponse // nil: no identity is registered
	changed chan struct{}              // closed when now is replaced
}

func newAgent(t *testing.T) *agent {
	return &agent{t: t, socket: filepath.Join(t.TempDir(), "agent.sock"), changed: make(chan struct{})}
}

// start serves until stop is called, which ends every stream.
func (a *agent) start() (stop func()) {
	a.t.Helper()
	l, err := net.Listen("unix", a.socket)
	if err != nil {
		a.t.Fatal(err)
	}
	server := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(server, a)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	return func() {
		server.Stop()
		serving.Wait()
	}
}

// give replaces what the agent has; bundle are the roots of the trust domain.
func (a *agent) give(bundle []*x509.Certificate, all ...identity.Material) {
	a.t.Helper()
	r := &workload.X509SVIDResponse{}
	for _, m := range all {
		key, err := x509.MarshalPKCS8PrivateKey(m.Key)
		if err != nil {
			a.t.Fatal(err)
		}
		r.Svids = append(r.Svids, &workload.X509SVID{
			SpiffeId: m.Chain[0].URIs[0].String(), X509Svid: raw(m.Chain), X509SvidKey: key, Bundle: raw(bundle),
		})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = r
	close(a.changed)
	a.changed = make(chan struct{})
}

func raw(certs []*x509.Certificate) (all []byte) {
	for _, c := range certs {
		all = append(all, c.Raw...)
	}
	return all
}

func (a *agent) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	if md, _ := metadata.FromIncomingContext(stream.Context()); md.Get("workload.spiffe.io") == nil {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	for {
		a.mu.Lock()
		now, changed := a.now, a.changed
		a.mu.Unlock()
		if now == nil {
			return status.Error(codes.PermissionDenied, "no identity issued")
		}
		if err := stream.Send(now); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (a *agent) client() *Client {
	return &Client{
		Address: "unix://" + a.socket, Register: "spiffe://TRUST-DOMAIN/cluster/west/gateway/west-1",
		Accept: func(id identity.ID) error {
			if !id.IsGateway() {
				return errors.New("this is a gateway")
			}
			return nil
		},
	}
}

func issue(t *testing.T, a *identity.Authority, id identity.ID, ttl time.Duration) identity.Material {
	t.Helper()
	c, err := a.Issue(identity.Request{ID: id, TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	return c.Material()
}

// await waits until what happens is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30s", what)
		}
	}
}

var west1 = identity.ID{Gateway: "west-1"}

func TestAnAgentsIdentityIsUsedAndItsUpdatesAreFollowed(t *testing.T) {
	mesh := identitytest.New(t, "mesh.example")
	west, bundle := mesh.Cluster("west"), mesh.Cluster("west").Roots()
	a := newAgent(t)
	defer a.start()()
	a.give(bundle, issue(t, west, identity.ID{Namespace: "shop", ServiceAccount: "orders"}, time.Hour), issue(t, west, west1, time.Hour))

	s, err := a.client().Source(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.ID().String(); got != "spiffe://mesh.example/cluster/west/gateway/west-1" {
		t.Errorf("became %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	defer running.Wait()
	defer cancel()

	renewed := issue(t, west, west1, 2*time.Hour)
	other, err := identity.NewRoot("mesh.example", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	a.give(append(bundle[:1:1], other.Roots()...), renewed)
	await(t, "the new certificate and both roots", func() bool {
		return s.NotAfter().Equal(renewed.Chain[0].NotAfter) && len(s.Trust().Roots()) == 2
	})

	a.give(bundle, issue(t, west, identity.ID{Gateway: "west-2"}, time.Hour))
	await(t, "the fault", func() bool { return strings.Contains(s.Fault(), "restart it to change who it is") })
	if !s.NotAfter().Equal(renewed.Chain[0].NotAfter) {
		t.Error("somebody else's certificate is in use")
	}
	a.give(bundle, renewed)
	await(t, "no fault", func() bool { return s.Fault() == "" })
}

func TestAnAgentThatIsLostIsToldAndFoundAgain(t *testing.T) {
	west := identitytest.New(t, "mesh.example").Cluster("west")
	a := newAgent(t)
	stop := a.start()
	a.give(west.Roots(), issue(t, west, west1, time.Hour))
	s, err := a.client().Source(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	defer running.Wait()
	defer cancel()

	stop()
	await(t, "the fault", func() bool { return strings.Contains(s.Fault(), "Workload API at unix://") })
	renewed := issue(t, west, west1, 2*time.Hour)
	a.give(west.Roots(), renewed)
	defer a.start()()
	await(t, "the new certificate", func() bool { return s.NotAfter().Equal(renewed.Chain[0].NotAfter) })
	await(t, "no fault", func() bool { return s.Fault() == "" })
}

func TestWhatAnAgentOffersThatIsNotOfTheMeshIsAnErrorThatSaysWhatToRegister(t *testing.T) {
	west := identitytest.New(t, "mesh.example").Cluster("west")
	a := newAgent(t)
	_, err := a.client().Source(t.Context())
	wantError(t, err, "the Workload API at unix://", "no such file")

	defer a.start()()
	_, err = a.client().Source(t.Context())
	wantError(t, err, "no identity issued")

	a.give(west.Roots(), issue(t, west, identity.ID{Namespace: "shop", ServiceAccount: "orders"}, time.Hour))
	_, err = a.client().Source(t.Context())
	wantError(t, err, "/ns/shop/sa/orders (this is a gateway)", "register spiffe://TRUST-DOMAIN/cluster/west/gateway/west-1", "spire-server entry create")

	foreign := selfSigned(t, "spiffe://mesh.example/db/primary")
	a.give(foreign.Chain, foreign)
	_, err = a.client().Source(t.Context())
	wantError(t, err, "spiffe://mesh.example/db/primary", "the path must be /cluster/NAME/", "register spiffe://TRUST-DOMAIN/")
}

func selfSigned(t *testing.T, id string) identity.Material {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		URIs: []*url.URL{uri}, NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return identity.Material{Chain: []*x509.Certificate{cert}, Key: key}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want one with %q", err, part)
		}
	}
}
