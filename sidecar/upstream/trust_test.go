package upstream

import (
	"context"
	"os"
	"path/filepath"
	"testing"

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
		past := caller.Past()
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
