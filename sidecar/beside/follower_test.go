package beside

import (
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/internal/beside"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

// gateway is the gateway's end of a stream.
type gateway struct {
	grpc.BidiStreamingClient[beside.Place, beside.Ports]
	ctx  context.Context
	told []*beside.Place
	says chan *beside.Ports // closed: it ends the stream
}

func (g *gateway) Send(p *beside.Place) error { g.told = append(g.told, p); return nil }
func (g *gateway) CloseSend() error           { return nil }

func (g *gateway) Recv() (*beside.Ports, error) {
	select {
	case m, ok := <-g.says:
		if !ok {
			return nil, io.EOF
		}
		return m, nil
	case <-g.ctx.Done():
		return nil, g.ctx.Err()
	}
}

var orders = &beside.Port{Service: "shop/orders", Port: 80, Protocol: "http", Target: "10.42.0.7:8080"}

// pod makes a follower on a host of an address.
func pod(t *testing.T, path string) *Follower {
	t.Helper()
	links, err := gatewaylink.New(identitytest.New(t, "mesh.example").Workload("east", "shop", "orders"), []string{"127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	f := New(links, path, nil)
	f.here = func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("10.42.0.7")} }
	return f
}

// talking has a follower talk to a gateway until the test ends.
func talking(t *testing.T, f *Follower) *gateway {
	g, ended := &gateway{says: make(chan *beside.Ports)}, make(chan error, 1)
	go func() {
		var stood bool
		ended <- gatewaylink.Converse(t.Context(), f.links[0],
			func(ctx context.Context, _ grpc.ClientConnInterface) (beside.Beside_FollowClient, error) {
				g.ctx = ctx
				return g, nil
			},
			func(s *stream) error { return f.talk(f.links[0], s, &stood) })
	}()
	t.Cleanup(func() { close(g.says); <-ended })
	synctest.Wait()
	return g
}

func TestWhatAGatewayTellsIsServedAndKeptOverARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "beside.pb")
	synctest.Test(t, func(t *testing.T) {
		f := pod(t, path)
		f.Restore()
		if ports, _ := f.Snapshot(); ports != nil {
			t.Errorf("before anything was told: %v", *ports)
		}
		g := talking(t, f)
		if len(g.told) != 1 || !slices.Equal(g.told[0].GetAddresses(), []string{"10.42.0.7"}) {
			t.Errorf("the gateway was told %v", g.told)
		}
		g.says <- &beside.Ports{Ports: []*beside.Port{orders}}
		synctest.Wait()
		ports, past := f.Snapshot()
		want := Port{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80, Protocol: mesh.HTTP, Target: "10.42.0.7:8080"}
		if ports == nil || !slices.Equal(*ports, []Port{want}) {
			t.Fatalf("served are %v", ports)
		}
		g.says <- &beside.Ports{Ports: []*beside.Port{orders}} // from another gateway
		synctest.Wait()
		select {
		case <-past:
			t.Error("the same is taken for a change")
		default:
		}
		if err := f.saver.Save(); err != nil {
			t.Error(err)
		}
		again := pod(t, path)
		again.Restore()
		if ports, _ := again.Snapshot(); ports == nil || !slices.Equal(*ports, []Port{want}) {
			t.Errorf("after a restart %v", ports)
		}
		elsewhere := pod(t, path)
		elsewhere.here = func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("10.42.0.8")} }
		elsewhere.Restore()
		if ports, _ := elsewhere.Snapshot(); ports != nil {
			t.Errorf("in another pod %v", *ports)
		}
	})
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := pod(t, path)
	f.Restore()
	if ports, _ := f.Snapshot(); ports != nil {
		t.Errorf("of a torn file %v", *ports)
	}
}

func TestAPortThatIsNotHereOrMakesNoSenseIsLeftOutAndTheOthersCount(t *testing.T) {
	here := []netip.Addr{netip.MustParseAddr("10.42.0.7")}
	ports, err := portsOf(&beside.Ports{Ports: []*beside.Port{
		{Service: "shop/orders", Port: 80, Protocol: "http", Target: "10.42.0.8:8080"},
		{Service: "orders", Port: 80, Protocol: "http", Target: "10.42.0.7:8080"},
		{Service: "shop/orders", Port: 65536 + 80, Protocol: "http", Target: "10.42.0.7:8080"},
		{Service: "shop/orders", Port: 80, Protocol: "http", Target: "localhost:8080"},
		orders, orders,
		{Service: "shop/new", Port: 80, Protocol: "http9", Target: "10.42.0.7:9090"},
	}}, here)
	if err == nil || len(ports) != 2 || ports[0].Service.Name != "orders" || ports[1].Protocol != mesh.Auto {
		t.Errorf("%v, %v", ports, err)
	}
}

func TestANewAddressOfTheHostIsToldToTheGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := pod(t, "")
		var at atomic.Pointer[[]netip.Addr]
		at.Store(new([]netip.Addr))
		f.here = func() []netip.Addr { return *at.Load() }
		g := talking(t, f)
		g.says <- &beside.Ports{}
		at.Store(&[]netip.Addr{netip.MustParseAddr("10.42.0.7")})
		time.Sleep(lookEvery)
		synctest.Wait()
		if len(g.told) != 2 || !slices.Equal(g.told[1].GetAddresses(), []string{"10.42.0.7"}) {
			t.Errorf("the gateway was told %v", g.told)
		}
	})
}

func FuzzPorts(f *testing.F) {
	f.Add("shop/orders", uint32(80), "http", "10.42.0.7:8080")
	f.Fuzz(func(t *testing.T, service string, port uint32, protocol, target string) {
		ports, err := portsOf(&beside.Ports{Ports: []*beside.Port{{Service: service, Port: port, Protocol: protocol, Target: target}}}, []netip.Addr{netip.MustParseAddr("10.42.0.7")})
		if err == nil && (len(ports) != 1 || ports[0].Port == 0) {
			t.Errorf("%v", ports)
		}
	})
}
