package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAPooledConnectionToWhoIsNotTrustedAnyMoreIsNotUsedAgain(t *testing.T) {
	ours, theirs := identitytest.New(t, "mesh.example"), identitytest.New(t, "mesh.example")
	dir := ours.WorkloadDir("east", "shop", "caller")
	roots := filepath.Join(dir, "roots.pem")
	only, err := os.ReadFile(roots)
	if err != nil {
		t.Fatal(err)
	}
	more, err := os.ReadFile(filepath.Join(theirs.WorkloadDir("west", "shop", "orders"), "roots.pem"))
	if err != nil {
		t.Fatal(err)
	}
	trust := func(pem []byte) {
		t.Helper()
		if err := os.WriteFile(roots+"~", pem, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(roots+"~", roots); err != nil {
			t.Fatal(err)
		}
	}
	trust(append(only[:len(only):len(only)], more...))
	caller, err := identity.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- caller.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	for _, kept := range []bool{true, false} {
		w := &world{ours, caller, theirs.Workload("west", "shop", "orders")}
		if kept {
			w.orders = ours.Workload("west", "shop", "orders")
		}
		_, s := w.set(t, &mesh.Route{Local: at(serve(t, echo(w.orders)), ordersWest)})
		h, conn := mustGet(t, s)
		h.put(conn)
		past := caller.Trust().Past()
		if kept {
			trust(append(more[:len(more):len(more)], only...)) // another set, in which it is still
		} else {
			trust(only)
		}
		<-past
		got, err := h.get(t.Context(), nil)
		if kept && (err != nil || !got.Reused) {
			t.Errorf("%+v, %v; want the pooled connection", got, err)
		}
		if !kept && err == nil {
			t.Errorf("got a connection (pooled: %v) to who is not trusted any more", got.Reused)
		}
		if err == nil {
			_ = got.Close()
		}
	}
}

func TestConnectionsToWhoIsRevokedAreCutWhetherIdleOrInUse(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	caller := m.Workload("east", "shop", "caller")
	w := &world{m, caller, m.Workload("west", "shop", "orders")}
	set, s := w.set(t, &mesh.Route{Local: at(serve(t, echo(w.orders)), ordersWest)})
	h, used := mustGet(t, s)
	idle, err := h.get(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	h.put(idle)
	set.Judge() // nothing has changed
	if _, err := used.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	b, err := identity.Bundle{TrustDomain: "mesh.example", Number: 1, Roots: []*x509.Certificate{m.Root.Certificate()},
		Revoked: []identity.Revocation{{What: w.orders.ID().String()}}}.Sign(m.Root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := caller.Trust().Accept(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	set.Judge()
	for what, c := range map[string]*Conn{"in use": used, "idle": idle} {
		if _, err := c.sock.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: a write after the judgement: %v", what, err)
		}
	}
	_ = used.Close()
	set.Close()
	if n := len(set.shared.secured.open); n != 0 {
		t.Errorf("%d connections are kept account of that are closed", n)
	}
}

func TestCallsOfWhoIsRevokedItselfEndAtOnceAndSayWhy(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	w := &world{m, m.Workload("east", "shop", "caller"), m.Workload("west", "shop", "orders")}
	_, s := w.set(t, &mesh.Route{Local: at(serve(t, echo(w.orders)), ordersWest)})
	b, err := identity.Bundle{TrustDomain: "mesh.example", Number: 4, Roots: []*x509.Certificate{m.Root.Certificate()},
		Revoked: []identity.Revocation{{What: w.caller.ID().String()}}}.Sign(m.Root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.caller.Trust().Accept(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	var a Attempts
	a.Begin(s, DefaultRetries(), time.Now())
	_, err = a.Next(t.Context(), nil)
	failed, ok := errors.AsType[*ConnectError](err)
	if !ok || !strings.HasPrefix(failed.Advice(), "this identity was revoked (bundle 4)") || a.Asked() != 1 {
		t.Errorf("after %d attempts: %v", a.Asked(), err)
	}
}
