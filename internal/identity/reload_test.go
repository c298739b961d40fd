package identity_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// lines is a slog handler that hands on each message with its attributes.
type lines chan string

func (l lines) Enabled(context.Context, slog.Level) bool { return true }
func (l lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l lines) WithGroup(string) slog.Handler            { return l }
func (l lines) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool { b.WriteString(" " + a.String()); return true })
	l <- b.String()
	return nil
}

// next waits for a line with want in it; lines before it are passed over.
func (l lines) next(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(time.Minute)
	var seen []string
	for {
		select {
		case got := <-l:
			if strings.Contains(got, want) {
				return
			}
			seen = append(seen, got)
		case <-deadline:
			t.Fatalf("no log line with %q; there were %q", want, seen)
		}
	}
}

// follow opens dir and runs the source until the test ends.
func follow(t *testing.T, dir string) (*identity.Source, lines) {
	t.Helper()
	s, err := identity.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	log := make(lines, 100)
	s.LogTo(slog.New(log))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return s, log
}

func issueTo(t *testing.T, ca *identity.Authority, name mesh.GatewayName, ttl time.Duration, dir string) *identity.Credential {
	t.Helper()
	c, err := ca.Issue(identity.Request{ID: identity.ID{Gateway: name}, TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Save(dir, true); err != nil {
		t.Fatal(err)
	}
	return c
}

// touchUntil makes notices until a line is logged, so that the test need not know when the watch began.
func touchUntil(t *testing.T, dir string, log lines, want string) {
	t.Helper()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				os.WriteFile(filepath.Join(dir, "notice"), nil, 0o600)
			}
		}
	}()
	log.next(t, want)
	close(stop)
	<-done
}

func TestARenewedCertificateIsUsedWithoutARestart(t *testing.T) {
	east, dir := newCluster(t, newRoot(t)), t.TempDir()
	issueTo(t, east, "east-1", 30*24*time.Hour, dir)
	s, log := follow(t, dir)
	server, client := s.ServerTLS(identity.AnyGateway()), s.ClientTLS("x", identity.AnyGateway())

	renewed := issueTo(t, east, "east-1", 60*24*time.Hour, dir)
	touchUntil(t, dir, log, "identity replaced")
	if !s.NotAfter().Equal(renewed.NotAfter()) {
		t.Errorf("not after %s, want %s", s.NotAfter(), renewed.NotAfter())
	}
	cs, ss, cerr, serr := handshake(t, client, server)
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	for _, c := range append(cs.PeerCertificates[:1:1], ss.PeerCertificates[0]) {
		if !c.NotAfter.Equal(renewed.NotAfter()) {
			t.Errorf("the old certificate was sent, valid until %s", c.NotAfter)
		}
	}
}

func TestABadSetKeepsTheLastGoodOne(t *testing.T) {
	root := newRoot(t)
	east, dir := newCluster(t, root), t.TempDir()
	good := issueTo(t, east, "east-1", time.Hour, dir)
	s, log := follow(t, dir)

	for _, tc := range []struct {
		change func()
		want   string
	}{
		{func() { write(t, dir, "cert.pem", []byte("half a fi")) }, "holds no PEM certificate"},
		{func() { os.Remove(filepath.Join(dir, "cert.pem")) }, "cert.pem: no such file"},
		{func() { issueTo(t, east, "east-2", 2*time.Hour, dir) }, "restart it to change who it is"},
		{func() {
			issueTo(t, newCluster(t, newRoot(t)), "east-1", 3*time.Hour, dir)
			write(t, dir, "roots.pem", []byte{})
		}, "roots.pem: holds no PEM certificate"},
	} {
		tc.change()
		touchUntil(t, dir, log, tc.want)
		if !s.NotAfter().Equal(good.NotAfter()) || s.ID() != good.ID() {
			t.Errorf("%s: in use is %s until %s", tc.want, s.ID(), s.NotAfter())
		}
		if got := s.Fault(); !strings.Contains(got, tc.want) {
			t.Errorf("the fault is %q, want %q", got, tc.want)
		}
		if _, err := s.Sign([]byte("x")); err != nil {
			t.Errorf("%s: %v", tc.want, err)
		}
	}
	last := issueTo(t, east, "east-1", 4*time.Hour, dir)
	touchUntil(t, dir, log, "identity replaced")
	if !s.NotAfter().Equal(last.NotAfter()) {
		t.Errorf("not after %s, want %s", s.NotAfter(), last.NotAfter())
	}
	if got := s.Fault(); got != "" {
		t.Errorf("good files have the fault %q", got)
	}
}

// As the kubelet updates a mounted secret: the files are links through a
// directory link that is swapped.
func TestASwappedSecretVolumeIsNoticed(t *testing.T) {
	east, dir := newCluster(t, newRoot(t)), t.TempDir()
	link := func(target, name string) {
		t.Helper()
		tmp := filepath.Join(dir, ".tmp")
		if err := os.Symlink(target, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	issueTo(t, east, "east-1", time.Hour, filepath.Join(dir, "..1"))
	link("..1", "..data")
	for _, f := range []string{"cert.pem", "key.pem", "roots.pem"} {
		link("..data/"+f, f)
	}
	s, log := follow(t, dir)
	renewed := issueTo(t, east, "east-1", 2*time.Hour, filepath.Join(dir, "..2"))
	link("..2", "..data")
	touchUntil(t, dir, log, "identity replaced")
	if !s.NotAfter().Equal(renewed.NotAfter()) {
		t.Errorf("not after %s, want %s", s.NotAfter(), renewed.NotAfter())
	}
}

func TestASourceInMemoryRunsUntilItsContextEnds(t *testing.T) {
	c, err := newCluster(t, newRoot(t)).Issue(identity.Request{ID: identity.ID{Gateway: "east-1"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Source()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}
