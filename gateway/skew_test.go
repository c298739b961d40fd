package gateway

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

// TestWhatANewerGatewayAsksForBesideCostsNothingElse opens tunnel streams of kinds
// that this version does not know: each is refused by itself, and the tunnel stays.
func TestWhatANewerGatewayAsksForBesideCostsNothingElse(t *testing.T) {
	m := identitytest.New(t, "mesh.example")
	west := lone(t)
	west.Cluster, west.Name, west.Listen.Tunnel = "west", "west-1", freePort(t)
	west.Advertise = west.Listen.Tunnel
	running(t, west, m.Gateway("west", "west-1"))
	cfg := lone(t)
	cfg.Join = []string{west.Advertise}
	g := running(t, cfg, m.Gateway("east", "east-1"))
	well := func() bool {
		view, _ := g.federation.View()
		return len(view.Gateways) == 2 && len(g.ready.Unmet()) == 0
	}
	until(t, "west is met, and east is ready", well)

	for asked, want := range map[string]int{
		"GET /tomorrow HTTP/1.1\r\nHost: west\r\nIsthmus-Later: 1\r\n\r\n":                                                      http.StatusNotFound,
		"CONNECT-UDP orders.shop.mesh:53 HTTP/1.1\r\nHost: orders.shop.mesh:53\r\nCapsule-Protocol: ?1\r\n\r\n":                 0,
		"CONNECT orders.shop.mesh:80 HTTP/1.1\r\nHost: orders.shop.mesh:80\r\nIsthmus-Later: 1\r\nVia: 1.1 east.east-1\r\n\r\n": http.StatusNotFound,
		"\x40\x41capsule of tomorrow\r\n\r\n": http.StatusBadRequest,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":    0,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		s, err := g.openStream(ctx, west.ID())
		cancel()
		if err != nil {
			t.Fatalf("after what was asked before: %v", err)
		}
		_ = s.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(s, asked); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(s), nil)
		switch {
		case err != nil && want != 0:
			t.Errorf("%q: %v", asked, err)
		case err == nil && (resp.StatusCode < 400 || want != 0 && resp.StatusCode != want):
			t.Errorf("%q is answered %s, want %d", asked, resp.Status, want)
		}
		_ = s.Close()
	}
	if !well() {
		view, _ := g.federation.View()
		t.Errorf("%d gateways, not ready: %v", len(view.Gateways), g.ready.Unmet())
	}
}
