package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/status"
)

func TestAWorkloadServesItsOwnServiceAndThoseThatAResourceListsItFor(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "east")
	east := m.gateway("east", "east-1")
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "stolen") }))
	t.Cleanup(program.Close)
	thief := m.prepared("east", "thief", "shop/web", "http", program.Listener.Addr().String(), "", func(*sidecarProc) []string { return nil })
	file := m.path("thief", "sidecar.yaml")
	config, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m.write("thief/sidecar.yaml", strings.Replace(string(config), "name: shop/web", "name: shop/orders", 1))
	thief.start()
	m.eventually(func() error { // both sides say why, once, and what to write
		a, err := status.Ask(context.Background(), thief.admin)
		if err != nil {
			return err
		}
		if said := a.Sidecar.Verdict(time.Now()); strings.Count(said, "write serves: [web] into the spec of the Service shop/orders") != 1 || strings.Contains(said, "rpc error") {
			return fmt.Errorf("the sidecar says %q", said)
		}
		g, err := east.status()
		if err != nil {
			return err
		}
		if said := g.Problems(time.Now()); !slices.ContainsFunc(said, func(p string) bool {
			return strings.HasPrefix(p, `spiffe://e2e.example/cluster/east/ns/shop/sa/web may not register as "shop/orders": `)
		}) {
			return fmt.Errorf("the gateway says %q", said)
		}
		return nil
	})
	m.settled(map[string]uint32{"east shop/orders": 0})

	const resource = "apiVersion: isthmus.io/v1alpha1\nkind: Service\nmetadata: {namespace: shop, name: orders}\nspec: {export: false, serves: [%s]}\n"
	m.resource("east", "orders", fmt.Sprintf(resource, "web"))
	m.settled(map[string]uint32{"east shop/orders": 1})
	m.resource("east", "orders", fmt.Sprintf(resource, "batch")) // and what is no longer listed is out
	m.settled(map[string]uint32{"east shop/orders": 0})
}
