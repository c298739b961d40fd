package federation

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// counted counts the lines of a log that hold a text.
type counted struct {
	text string
	n    atomic.Int64
}

func (c *counted) Write(b []byte) (int, error) {
	c.n.Add(int64(strings.Count(string(b), c.text)))
	return len(b), nil
}

func TestWhatAHostileGatewayInventsDoesNotFillTheLog(t *testing.T) {
	virtual(t, func(t *testing.T, w *world) {
		refused, forgotten := &counted{text: "is not taken"}, &counted{text: "are forgotten"}
		log := slog.NewTextHandler(io.MultiWriter(refused, forgotten), nil)
		east := w.start(plan{name: "east/east-1", addr: eastAddr, log: log})
		west := w.start(plan{name: "west/west-1", addr: westAddr, join: []string{eastAddr}})
		east.await("west-1", 10*time.Second, sees(west))
		other := identitytest.New(t, "mesh.example") // of the same name
		begun := time.Now()
		for i := range uint64(100) {
			b, err := identity.Bundle{TrustDomain: "mesh.example", Number: i + 1, Roots: []*x509.Certificate{other.Root.Certificate()}}.Sign(other.Root)
			if err != nil {
				t.Fatal(err)
			}
			body, err := json.Marshal(trustMessage{Report: TrustReport{Held: map[string]HeldBundle{}}, Bundles: []json.RawMessage{b.Bytes()}})
			if err != nil {
				t.Fatal(err)
			}
			if err := west.client.request(t.Context(), east.id, http.MethodPost, pathTrust, body, func(*http.Response) error { return nil }); err != nil {
				t.Fatal(err)
			}
			if err := west.client.forget(t.Context(), east.id, []mesh.GatewayID{{Cluster: "west", Name: mesh.GatewayName(fmt.Sprint("invented-", i))}}); err != nil {
				t.Fatal(err)
			}
		}
		if n := refused.n.Load(); n == 0 || n > maxRefusedLines+int64(time.Since(begun)/time.Second)+1 {
			t.Errorf("100 bundles of nobody are %d lines in %s", n, time.Since(begun))
		}
		if n := forgotten.n.Load(); n > 0 {
			t.Errorf("100 gateways that nobody knows are %d lines", n)
		}
		if east.holds() != 0 {
			t.Error("one of the bundles is in force")
		}
	})
}
