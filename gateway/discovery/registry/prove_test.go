package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
		own     bool
	}{
		{"127.0.0.7:15008", "127.0.0.7", "127.0.0.7:15008", true}, // nobody listens yet: it is the caller's
		{"[::ffff:127.0.0.7]:15008", "127.0.0.7", "[::ffff:127.0.0.7]:15008", true},
		{"[fe80::1%eth0]:15008", "fe80::1%eth0", "[fe80::1%eth0]:15008", true},
		{mine, "127.0.0.1", mine, false},
		{bank, "127.0.0.1", "", false},
		{plain, "127.0.0.1", "", false},
		{"127.0.0.2:1", "127.0.0.1", "", false},
		{"[fe80::1%eth1]:15008", "fe80::1%eth0", "", false},
		{"nobody.invalid:" + port, "127.0.0.1", "", false},
	} {
		host, zone, _ := strings.Cut(c.caller, "%")
		got, own, err := s.prove(t.Context(), c.address, me.ID(), &net.TCPAddr{IP: net.ParseIP(host), Port: 40000, Zone: zone})
		if got != c.want || own != c.own || (err == nil) != (c.want != "") {
			t.Errorf("%s by %s: %q, %v; want %q", c.address, c.caller, got, err, c.want)
		}
		if err != nil && (status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "write the address")) {
			t.Errorf("%s by %s: %v", c.address, c.caller, err)
		}
	}
	// A gateway that cannot ask takes nothing on trust.
	if got, _, err := server(t, Config{}).prove(t.Context(), mine, me.ID(), callerAddr); err == nil {
		t.Errorf("without an identity %q is accepted", got)
	}
}

func TestAGatewayAsksNobodyOutsideItsClustersRanges(t *testing.T) {
	ranges := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("::/0")}
	for _, c := range []struct {
		addr, caller string
		ranges       []netip.Prefix
		want         bool
	}{
		{"10.1.2.3", "10.1.9.9", privateRanges(), true},
		{"192.168.1.1", "10.1.9.9", privateRanges(), true},
		{"::ffff:10.1.2.3", "10.1.9.9", privateRanges(), true},
		{"fd00::7", "10.1.9.9", privateRanges(), true},
		{"8.8.8.8", "10.1.9.9", privateRanges(), false},
		{"2001:db8::1", "10.1.9.9", privateRanges(), false},
		{"8.8.8.8", "10.1.9.9", ranges, true},
		{"172.16.0.1", "10.1.9.9", ranges[:1], false},
		// Never, whatever the ranges say.
		{"169.254.169.254", "10.1.9.9", []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, false},
		{"fe80::1%eth0", "10.1.9.9", ranges, false},
		{"127.0.0.1", "10.1.9.9", ranges, false},
		{"::1", "10.1.9.9", ranges, false},
		{"::ffff:127.0.0.1", "10.1.9.9", ranges, false},
		{"0.0.0.0", "10.1.9.9", ranges, false},
		{"224.0.0.1", "10.1.9.9", []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, false},
		{"127.0.0.2", "127.0.0.1", nil, true}, // all of it is this machine
	} {
		if got := mayAsk(netip.MustParseAddr(c.addr), netip.MustParseAddr(c.caller), c.ranges); got != c.want {
			t.Errorf("%s for %s within %v: %v", c.addr, c.caller, c.ranges, got)
		}
	}
	// A name is asked about only where it leads to.
	m := identitytest.New(t, "mesh.example")
	me := m.Workload("east", "shop", "orders")
	s := server(t, Config{Identity: m.Gateway("east", "east-1"), Log: slog.New(slog.DiscardHandler)})
	knocked := make(chan struct{}, 1)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			knocked <- struct{}{}
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if _, _, err := s.prove(t.Context(), "localhost:"+port, me.ID(), &net.TCPAddr{IP: net.ParseIP("10.1.9.9"), Port: 1}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("localhost for another host: %v", err)
	}
	l.Close()
	<-done
	if len(knocked) > 0 {
		t.Error("a workload of another host had the gateway connect to its own loopback")
	}
}

func TestAFewAddressesAreAskedAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := server(t, Config{Log: slog.New(slog.DiscardHandler)}).proofs
		who := func(n int) identity.ID { return identity.ID{ServiceAccount: fmt.Sprint(n)} }
		ctx, cancel := context.WithTimeout(t.Context(), proofTimeout)
		defer cancel()
		var one func()
		for range maxProofsPerIdentity {
			one, _ = p.Take(ctx, who(0))
		}
		if _, ok := p.Take(ctx, who(1)); !ok {
			t.Error("one identity holds up another")
		}
		go func() {
			time.Sleep(proofTimeout / 2)
			one()
		}()
		if _, ok := p.Take(ctx, who(0)); !ok {
			t.Error("who waits has no turn when one ends")
		}
		if _, ok := p.Take(ctx, who(0)); ok {
			t.Error("one identity has more than its share")
		}
		more, cancel := context.WithTimeout(t.Context(), proofTimeout)
		defer cancel()
		for n := maxProofsPerIdentity + 1; n < maxProofs; n++ {
			p.Take(more, who(n))
		}
		if _, ok := p.Take(more, who(-1)); ok {
			t.Errorf("more than %d at a time", maxProofs)
		}
	})
}

func TestWhoIsGoneIsNotRememberedWithoutBound(t *testing.T) {
	for _, path := range []string{"", "file"} {
		s := server(t, Config{StatePath: path, Log: slog.New(slog.DiscardHandler)})
		st := newStream(caller(), callerAddr, s.log)
		for i := range maxRegistrations + 100 {
			k := key{mesh.ServiceName{Namespace: "shop", Name: "orders"}, 80, fmt.Sprint(i)}
			if _, err := s.put(k, entry{stream: st}); err != nil {
				t.Fatal(err)
			}
			s.remove(k, st, false)
		}
		if want := map[string]int{"": 0, "file": maxRegistrations}[path]; len(s.known) != want {
			t.Errorf("with state file %q %d are remembered, want %d", path, len(s.known), want)
		}
	}
}
