package enroll

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/process"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// process is a gateway whose CA nobody is.
func waiting(t *testing.T) Process {
	dir := t.TempDir()
	return Process{
		Identity: config.Identity{CA: []string{"127.0.0.1:1"}, Token: filepath.Join(dir, "token")}, Role: config.GatewayRole, State: filepath.Join(dir, "state"),
		Accept: func(id identity.ID) error {
			if id.Gateway != "west-1" {
				return errors.New("this is west-1")
			}
			return nil
		},
		Name: "gateway west/west-1", TokenFor: "--gateway west-1", Make: "isthmus pki gateway --cluster west west-1", Path: "/cluster/west/gateway/west-1",
	}
}

func TestAProcessWithoutACertificateWaitsAndSaysWhatForAtItsAdminPort(t *testing.T) {
	p := waiting(t)
	bound := make(chan struct{})
	addrs, err := process.NewPorts().Take(1) // nothing else takes it when it is free again
	if err != nil {
		t.Fatal(err)
	}
	at := addrs[0]
	ports := func() (admin.Ports, error) {
		ports, err := admin.Bind(net.Listen, at, "", "")
		if err == nil {
			close(bound)
		}
		return ports, err
	}
	type result struct {
		source *identity.Source
		err    error
	}
	done := make(chan result, 1)
	go func() {
		s, err := Open(t.Context(), p, ports)
		done <- result{s, err}
	}()
	<-bound
	resp, err := http.Get("http://" + at + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "isthmus pki token -c ca.yaml --gateway west-1 -o "+p.Identity.Token) {
		t.Errorf("readyz: %s %q, %v", resp.Status, body, err)
	}
	a, err := status.Ask(t.Context(), at)
	if err != nil || a.Waiting == nil || !strings.HasPrefix(a.Waiting.Verdict(), "gateway west/west-1, not ready: certificate (none yet: token: ") {
		t.Errorf("status %+v, %v", a, err)
	}
	if _, err := config.ClaimState(p.State, p.Role); !errors.Is(err, config.ErrStateInUse) {
		t.Errorf("another process of its kind may have its state: %v", err)
	}

	c, err := identitytest.New(t, "mesh.example").Cluster("west").Issue(identity.Request{ID: identity.ID{Gateway: "west-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.SaveMaterial(filepath.Join(p.State, "gateway-identity.pem"), c.Material()); err != nil {
		t.Fatal(err)
	}
	r := <-done
	if r.err != nil || r.source.ID() != c.ID() {
		t.Fatalf("%v, %v", r.source, r.err)
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Errorf("the admin port is still held: %v", err)
	} else {
		l.Close()
	}
	release, err := config.ClaimState(p.State, p.Role)
	if err != nil {
		t.Errorf("the state is still held: %v", err)
	} else if err := release(); err != nil {
		t.Error(err)
	}
}

func TestAWaitEndsWithItsContextAlsoWhenThePortIsTaken(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Open(ctx, waiting(t), func() (admin.Ports, error) {
		cancel()
		return admin.Ports{}, errors.New("address already in use")
	})
	if s != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", s, err)
	}
}

func TestFilesAreThereOrAnErrorOfTheirKey(t *testing.T) {
	p := waiting(t)
	p.Identity = config.Identity{Dir: identitytest.New(t, "mesh.example").GatewayDir("west", "west-2")}
	for _, open := range []func() (*identity.Source, error){
		func() (*identity.Source, error) { return Open(t.Context(), p, nil) },
		func() (*identity.Source, error) { return Check(p) },
	} {
		_, err := open()
		var key *config.KeyError
		if !errors.As(err, &key) || key.Key != "identity.dir" || !strings.Contains(err.Error(), "this is west-1; or make one with isthmus pki gateway --cluster west west-1") {
			t.Error(err)
		}
	}
	p.Identity.Dir = identitytest.New(t, "mesh.example").GatewayDir("west", "west-1")
	if s, err := Open(t.Context(), p, nil); err != nil || s.ID().Gateway != "west-1" {
		t.Errorf("%v, %v", s, err)
	}
}

func TestACheckFindsWhatIsOnDiskOrTheToken(t *testing.T) {
	p := waiting(t)
	_, err := Check(p)
	var key *config.KeyError
	if !errors.As(err, &key) || key.Key != "identity.token" {
		t.Errorf("without a token: %v", err)
	}
	west := identitytest.New(t, "mesh.example").Cluster("west")
	for name, want := range map[string]string{"west-2": "this is west-1", "west-1": ""} {
		text, _, err := west.NewToken(identity.ID{Gateway: "west-1"}, "west-ca", time.Minute)
		if name == "west-2" {
			text, _, err = west.NewToken(identity.ID{Gateway: "west-2"}, "west-ca", time.Minute)
		}
		if err == nil {
			err = os.WriteFile(p.Identity.Token, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if s, err := Check(p); s != nil || (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("with a token for %s: %v, %v", name, s, err)
		}
	}
	p.Identity = config.Identity{WorkloadAPI: "unix:///nowhere"}
	if s, err := Check(p); s != nil || err == nil || !strings.Contains(err.Error(), "identity.workloadAPI: no agent listens at /nowhere") {
		t.Errorf("of an agent: %v, %v", s, err)
	}
}
