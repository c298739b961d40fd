package registry

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// answer serves TLS as id at an address of its own until the test ends.
func answer(t *testing.T, id *identity.Source) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if id != nil {
				_ = tls.Server(c, id.ServerTLS(identity.AnyMember())).HandshakeContext(t.Context())
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func TestAnAddressThatIsNotTheCallersMustProveToBe(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	me := m.Workload("east", "shop", "orders")
	s := server(t, Config{Identity: m.Gateway("east", "east-1"), Log: slog.New(slog.DiscardHandler)})
	mine, bank, plain := answer(t, me), answer(t, m.Workload("east", "bank", "ledger")), answer(t, nil)
	_, port, err := net.SplitHostPort(mine)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address string
		caller  string
		want    string // empty: refused
	}{
		{"127.0.0.7:15008", "127.0.0.7", "127.0.0.7:15008"}, // nobody listens yet: it is the caller's
		{"[::ffff:127.0.0.7]:15008", "127.0.0.7", "[::ffff:127.0.0.7]:15008"},
		{"[fe80::1%eth0]:15008", "fe80::1%eth0", "[fe80::1%eth0]:15008"},
		{mine, "127.0.0.1", mine},
		{bank, "127.0.0.1", ""},
		{plain, "127.0.0.1", ""},
		{"127.0.0.2:1", "127.0.0.1", ""},
		{"[fe80::1%eth1]:15008", "fe80::1%eth0", ""},
		{"nobody.invalid:" + port, "127.0.0.1", ""},
	} {
		host, zone, _ := strings.Cut(c.caller, "%")
		got, err := s.prove(t.Context(), c.address, me.ID(), &net.TCPAddr{IP: net.ParseIP(host), Port: 40000, Zone: zone})
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s by %s: %q, %v; want %q", c.address, c.caller, got, err, c.want)
		}
		if err != nil && (status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "write the address")) {
			t.Errorf("%s by %s: %v", c.address, c.caller, err)
		}
	}
	// A gateway that cannot ask takes nothing on trust.
	if got, err := server(t, Config{}).prove(t.Context(), mine, me.ID(), callerAddr); err == nil {
		t.Errorf("without an identity %q is accepted", got)
	}
}

func TestOneIdentityCannotTakeEveryRegistration(t *testing.T) {
	s := server(t, Config{Log: slog.New(slog.DiscardHandler)})
	st := &stream{log: s.log}
	put := func(i int, id string) error {
		return s.put(key{mesh.ServiceName{Namespace: "shop", Name: "orders"}, 80, fmt.Sprint(id, i)},
			entry{stream: st, endpoint: mesh.Endpoint{Identity: id}})
	}
	for i := range maxPerIdentity {
		if err := put(i, "hog"); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(maxPerIdentity, "hog"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more is accepted: %v", err)
	}
	if err := put(0, "other"); err != nil {
		t.Errorf("another identity is refused: %v", err)
	}
	s.remove(key{mesh.ServiceName{Namespace: "shop", Name: "orders"}, 80, "hog0"}, st, true)
	if err := put(maxPerIdentity, "hog"); err != nil {
		t.Errorf("what is withdrawn does not make room: %v", err)
	}
}

func TestWhoIsGoneIsNotRememberedWithoutBound(t *testing.T) {
	for _, path := range []string{"", "file"} {
		s := server(t, Config{StatePath: path, Log: slog.New(slog.DiscardHandler)})
		st := &stream{log: s.log}
		for i := range maxRegistrations + 100 {
			k := key{mesh.ServiceName{Namespace: "shop", Name: "orders"}, 80, fmt.Sprint(i)}
			if err := s.put(k, entry{stream: st}); err != nil {
				t.Fatal(err)
			}
			s.remove(k, st, false)
		}
		if want := map[string]int{"": 0, "file": maxRegistrations}[path]; len(s.known) != want {
			t.Errorf("with state file %q %d are remembered, want %d", path, len(s.known), want)
		}
	}
}
