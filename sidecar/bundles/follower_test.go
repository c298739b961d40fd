package bundles

import (
	"context"
	"crypto/x509"
	"io"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/trust"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

func bundle(t *testing.T, m *identitytest.Mesh, number uint64) []byte {
	t.Helper()
	b, err := identity.Bundle{TrustDomain: "mesh.example", Number: number, Roots: []*x509.Certificate{m.Root.Certificate()}}.Sign(m.Root)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestABundleIsTakenBecauseARootSignedItWhoeverSendsIt(t *testing.T) {
	m, other := identitytest.New(t, "mesh.example"), identitytest.New(t, "mesh.example")
	f := New(nil, m.Workload("east", "shop", "orders").Trust(), nil)
	if err := f.accept(&trust.Bundles{Bundles: [][]byte{bundle(t, m, 2)}}); err != nil {
		t.Fatal(err)
	}
	if err := f.accept(&trust.Bundles{Bundles: [][]byte{bundle(t, other, 9), []byte("{}")}}); err == nil {
		t.Error("a bundle of another root is taken")
	}
	if h := f.holding("why"); len(h.GetHeld()) != 1 || h.GetHeld()[0].GetNumber() != 2 || h.GetRefused() != "why" || h.GetOutdatedRoot() {
		t.Errorf("it says %v", h)
	}
}

// gateway is the other end of a stream.
type gateway struct {
	grpc.BidiStreamingClient[trust.Holding, trust.Bundles]
	ctx  context.Context
	told []*trust.Holding
	send chan *trust.Bundles
}

func (g *gateway) Send(h *trust.Holding) error { g.told = append(g.told, h); return nil }

func (g *gateway) Recv() (*trust.Bundles, error) {
	select {
	case b := <-g.send:
		return b, nil
	case <-g.ctx.Done():
		return nil, io.EOF
	}
}

func TestAGatewayIsToldWhatIsHeldFirstAndAfterEveryChangeAndRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, other := identitytest.New(t, "mesh.example"), identitytest.New(t, "mesh.example")
		id := m.Workload("east", "shop", "orders")
		links, err := gatewaylink.New(id, []string{"127.0.0.1:1"})
		if err != nil {
			t.Fatal(err)
		}
		f, g := New(links, id.Trust(), nil), &gateway{send: make(chan *trust.Bundles)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- gatewaylink.Converse(ctx, links[0],
				func(ctx context.Context, _ grpc.ClientConnInterface) (trust.Trust_FollowClient, error) {
					g.ctx = ctx
					return g, nil
				},
				func(s *stream) error { return f.talk(s, new(bool)) })
		}()
		g.send <- &trust.Bundles{}
		g.send <- &trust.Bundles{Bundles: [][]byte{bundle(t, m, 5)}}
		synctest.Wait()
		g.send <- &trust.Bundles{Bundles: [][]byte{bundle(t, other, 6)}}
		synctest.Wait()
		cancel()
		<-ended
		if len(g.told) != 3 || g.told[0].GetHeld()[0].GetNumber() != 0 || g.told[1].GetHeld()[0].GetNumber() != 5 || g.told[2].GetRefused() == "" {
			t.Errorf("it said %v", g.told)
		}
	})
}
