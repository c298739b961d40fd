package dns

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
)

// pod is a resolver of a pod in cluster west, beside a server of its cluster that answers
// everything by 10.96.0.1 and notes the names.
type pod struct {
	*Server
	t *testing.T

	mu        sync.Mutex
	forwarded []string
	asked     []string // of the control plane
}

var errNoGateway = errors.New("no gateway has answered yet")

func inPod(t *testing.T, knows func(context.Context, mesh.Destination) (bool, error)) *pod {
	t.Helper()
	p := &pod{t: t}
	server := outside(t, func(_ string, packet []byte) [][]byte {
		q, r := new(dns.Msg), new(dns.Msg)
		if q.Unpack(packet) != nil {
			return nil
		}
		p.mu.Lock()
		p.forwarded = append(p.forwarded, q.Question[0].Name)
		p.mu.Unlock()
		r.SetReply(q)
		r.Answer = []dns.RR{&dns.A{Hdr: header(q.Question[0].Name, dns.TypeA), A: netip.MustParseAddr("10.96.0.1").AsSlice()}}
		b, err := r.Pack()
		if err != nil {
			return nil
		}
		return [][]byte{b}
	})
	p.Server = serve(t, shop(), func(cfg *Config) {
		cfg.ResolvConf = naming(server)
		cfg.ResolvConf.current.search = []string{"shop.svc.cluster.local.", "svc.cluster.local.", "cluster.local."}
		cfg.Cluster = "west"
		if knows == nil {
			return
		}
		cfg.InMesh = func(ctx context.Context, d mesh.Destination) (bool, error) {
			p.mu.Lock()
			p.asked = append(p.asked, d.Host())
			p.mu.Unlock()
			return knows(ctx, d)
		}
	})
	return p
}

// goes says where a question ends: "mesh" or "cluster".
func (p *pod) goes(network, name string) string {
	p.t.Helper()
	m := ask(p.t, p.Server, network, question(name, dns.TypeA))
	if len(m.Answer) != 1 {
		return dns.RcodeToString[m.Rcode]
	}
	if a := m.Answer[0].(*dns.A).A; a.String() != "10.96.0.1" {
		if d, ok := p.cfg.Table.Name(netip.MustParseAddr(a.String())); ok {
			return d.Host()
		}
	}
	return "cluster"
}

func TestANameOfKubernetesIsTheOwnClustersServiceWhereThatIsInTheMesh(t *testing.T) {
	p := inPod(t, func(_ context.Context, d mesh.Destination) (bool, error) {
		switch d.Service.String() {
		case "shop/orders":
			return true, nil
		case "default/kubernetes", "kube-system/kube-dns": // plain endpoints, and ports of UDP
			return false, nil
		}
		return false, routes.ErrAbsent
	})
	for _, network := range []string{"udp", "tcp"} {
		for name, want := range map[string]string{
			"orders.shop.svc.cluster.local":           "orders.shop.west.mesh",
			"Orders.Shop.SVC.cluster.local":           "orders.shop.west.mesh",
			"orders.shop.mesh":                        "orders.shop.mesh",
			"orders.shop.svc.clusterset.local":        "orders.shop.mesh",
			"kubernetes.default.svc.cluster.local":    "cluster",
			"kube-dns.kube-system.svc.cluster.local":  "cluster",
			"gone.shop.svc.cluster.local":             "cluster", // what is none of the mesh, such as an ExternalName
			"example.com.svc.cluster.local":           "cluster",
			"orders-0.orders.shop.svc.cluster.local":  "cluster", // a pod's
			"orders.shop.shop.svc.cluster.local":      "cluster", // orders.shop with the search list
			"shop.svc.cluster.local":                  "cluster",
			"svc.cluster.local":                       "cluster",
			"10-42-0-7.shop.pod.cluster.local":        "cluster",
			"orders.shop.mesh.shop.svc.cluster.local": "NXDOMAIN", // a mesh name stays here
			// What a resolver with ndots:5 asks for before orders.shop.svc.clusterset.local.
			"orders.shop.svc.clusterset.local.shop.svc.cluster.local": "NXDOMAIN",
			"orders.shop.svc.clusterset.local.svc.cluster.local":      "NXDOMAIN",
			"orders.shop.svc.clusterset.local.cluster.local":          "NXDOMAIN",
		} {
			if got := p.goes(network, name); got != want {
				t.Errorf("%s %s: %s, want %s", network, name, got, want)
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if never := "shop.orders.west.mesh"; slices.Contains(p.asked, never) {
		t.Errorf("the control plane was asked for %s", never)
	}
	if slices.Contains(p.forwarded, "orders.shop.svc.cluster.local.") {
		t.Error("a name of the mesh has left the machine")
	}
}

func TestAnInstancesNameIsForwardedOnceItsAddressIsCaptured(t *testing.T) {
	captured, asks := make(chan struct{}), make(chan struct{})
	p := inPod(t, func(context.Context, mesh.Destination) (bool, error) {
		close(asks)
		<-captured
		return true, nil // and yet an instance is not the service
	})
	answer := make(chan string)
	go func() { answer <- p.goes("udp", "db-0.db.shop.svc.cluster.local") }()
	<-asks
	p.mu.Lock()
	if len(p.forwarded) > 0 || !slices.Equal(p.asked, []string{"db.shop.west.mesh"}) {
		t.Errorf("forwarded %v before it is captured; asked for %v", p.forwarded, p.asked)
	}
	p.mu.Unlock()
	close(captured)
	if got := <-answer; got != "cluster" {
		t.Errorf("it goes to the %s", got)
	}
}

func TestTheServiceRecordOfANameOfKubernetesIsTheMeshes(t *testing.T) {
	p := inPod(t, func(context.Context, mesh.Destination) (bool, error) { return true, nil })
	r := ask(t, p.Server, "udp", question("_http._tcp.orders.shop.svc.cluster.local", dns.TypeSRV))
	if len(r.Answer) != 1 || r.Answer[0].(*dns.SRV).Target != "orders.shop.west.mesh." {
		t.Errorf("%v", r.Answer)
	}
}

func TestNamesOfKubernetesAreAnsweredWithoutAGateway(t *testing.T) {
	p := inPod(t, func(ctx context.Context, _ mesh.Destination) (bool, error) {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("it may wait for ever")
		}
		return false, errNoGateway
	})
	if got := p.goes("udp", "kubernetes.default.svc.cluster.local"); got != "cluster" {
		t.Errorf("goes to %s", got)
	}
}

func TestOutsideOfPodsNamesOfKubernetesAreNobodysBusiness(t *testing.T) {
	p := inPod(t, nil)
	if got := p.goes("udp", "orders.shop.svc.cluster.local"); got != "cluster" {
		t.Errorf("goes to %s", got)
	}
	for search, want := range map[string]string{"svc.cluster.local.": "svc.cluster.local.", "svc.k8s.corp.": "svc.k8s.corp.", "corp.example.": "", clustersetZone: ""} {
		if got := kubernetesZone([]string{"shop." + search, search}); got != want {
			t.Errorf("with %s it is %q", search, got)
		}
	}
}

func TestOnlyTheFirstQuestionForANameWaitsForAGatewayThatDoesNotAnswer(t *testing.T) {
	waits := make(chan bool, 8)
	p := inPod(t, func(ctx context.Context, _ mesh.Destination) (bool, error) {
		waits <- ctx.Err() == nil
		return false, errNoGateway
	})
	for i, want := range []bool{true, false, false} {
		if got := p.goes("udp", "example.com.svc.cluster.local"); got != "cluster" {
			t.Errorf("goes to %s", got)
		}
		if got := <-waits; got != want {
			t.Errorf("question %d waits: %v", i, got)
		}
	}
}
