package registration

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/register"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

var orders = mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}

// gateway is the gateway's end of a registration stream.
type gateway struct {
	grpc.BidiStreamingClient[register.Registration, register.Ack]
	ctx       context.Context
	told      []*register.Registration
	acks      chan *register.Ack // closed: it ends the stream
	withdrawn bool
}

func (g *gateway) Send(r *register.Registration) error { g.told = append(g.told, r); return nil }
func (g *gateway) CloseSend() error                    { g.withdrawn = true; return nil }

func (g *gateway) Recv() (*register.Ack, error) {
	select {
	case ack, ok := <-g.acks:
		if !ok {
			return nil, io.EOF
		}
		return ack, nil
	case <-g.ctx.Done():
		return nil, g.ctx.Err()
	}
}

// registered has a registrar register with a gateway, and returns both, the link
// between them and where the end of the stream is told.
func registered(t *testing.T) (*Registrar, *gateway, *gatewaylink.Link, <-chan error) {
	t.Helper()
	links, err := gatewaylink.New(identitytest.New(t, "mesh.example").Workload("east", "shop", "orders"), []string{"127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	r, g, ended := New(links, orders, nil), &gateway{acks: make(chan *register.Ack)}, make(chan error, 1)
	r.Register(&register.Registration{Service: "shop/orders", Port: 80})
	go func() {
		ended <- gatewaylink.Converse(t.Context(), links[0],
			func(ctx context.Context, _ grpc.ClientConnInterface) (register.Registry_RegisterClient, error) {
				g.ctx = ctx
				return g, nil
			},
			func(s *stream) error { return r.talk(links[0], s) })
	}()
	g.acks <- &register.Ack{Address: "10.0.0.7:15008"}
	synctest.Wait()
	return r, g, links[0], ended
}

func TestAGatewayIsToldOfEveryChangeAndItsWordIsInTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g, l, ended := registered(t)
		st := l.Status()
		if r := st.Registration(orders); !st.Registered() || r.Address != "10.0.0.7:15008" {
			t.Errorf("the status is %+v", st)
		}
		r.Register(&register.Registration{Service: "shop/orders", Port: 80, Ready: true})
		synctest.Wait()
		if len(g.told) != 2 || g.told[0].GetReady() || !g.told[1].GetReady() {
			t.Errorf("the gateway was told %v", g.told)
		}
		close(g.acks)
		if err := <-ended; err == nil {
			t.Error("a stream that the gateway ended counts as withdrawn")
		}
	})
}

func TestShutdownReturnsWhenTheGatewayHasConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g, _, ended := registered(t)
		down := make(chan error, 1)
		go func() { down <- r.Shutdown(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-down:
			t.Fatalf("returned %v before the gateway has confirmed", err)
		default:
		}
		if !g.withdrawn {
			t.Error("not withdrawn")
		}
		close(g.acks)
		if err := <-down; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

func TestAGatewayThatNeverConfirmsIsNotWaitedForWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _, ended := registered(t)
		began := time.Now()
		if err := r.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(began); took != 2500*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		if err := <-ended; err == nil {
			t.Error("counts as confirmed")
		}
	})
}
