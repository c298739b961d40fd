package entrance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/forward"
	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/socket/sockettest"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

var ordersAt80 = mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}

// bed is a gateway of east with an entrance, whose own cluster serves orders at endpoint
// without a sidecar.
type bed struct {
	e    *Entrance
	log  lines
	open openPorts
	port string // where orders is entered
}

func start(t *testing.T, endpoint string, policies ...policy.Policy) *bed {
	t.Helper()
	id := identitytest.New(t, "mesh.example").Gateway("east", "east-1")
	f, err := forward.New(forward.Config{
		Self: mesh.GatewayID{Cluster: "east", Name: "east-1"}, Identity: id, Entrance: true,
		Outbound: func(*forward.Request) ([]forward.Candidate, *connect.Refusal) {
			if endpoint == "" {
				return nil, connect.Refuse(http.StatusNotFound, connect.DestinationNotFound, "no service shop/orders in any cluster")
			}
			return []forward.Candidate{{Port: 80, Protocol: mesh.TCP, Endpoint: mesh.Endpoint{Instance: "orders-1", Address: endpoint, Ready: true}}}, nil
		},
		Inbound: func(*forward.Request) ([]forward.Candidate, *connect.Refusal) { return nil, nil },
		Open:    func(context.Context, mesh.GatewayID) (relay.Conn, error) { return nil, errors.New("no tunnel") },
		Authorizer: func(s mesh.ServiceName) *policy.Authorizer {
			a, err := policy.Compile(policy.SetOf(s, []uint16{80}, policies), "mesh.example", "east")
			if err != nil {
				panic(err)
			}
			return a
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{log: make(lines, 100)}
	b.e, err = New(Config{Identity: id, Host: "127.0.0.1", Enter: func(d mesh.Destination, peer net.Addr) (*forward.Entered, error) { return f.Enter(d, peer) }, Log: slog.New(slog.NewTextHandler(b.log, nil)), Listen: b.open.listen,
		Answers: func(mesh.Destination) []string { return []string{id.ID().String()} }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) })
	running.Go(func() { _ = b.e.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	b.port = sockettest.Reserve(t)
	b.want(t, map[uint16]mesh.Destination{portOf(t, b.port): ordersAt80})
	return b
}

// want replaces the ports and waits until they are bound.
func (b *bed) want(t *testing.T, ports map[uint16]mesh.Destination) {
	t.Helper()
	b.e.Want(ports)
	for {
		open, past := b.open.Snapshot()
		if open == len(ports) {
			return
		}
		<-past
	}
}

// openPorts is how many are listened on.
type openPorts struct {
	state.Store[int]
	mu sync.Mutex
}

func (p *openPorts) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Set(p.Load() + n)
}

func (p *openPorts) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	p.add(1)
	return counted{l, sync.OnceFunc(func() { p.add(-1) })}, nil
}

type counted struct {
	net.Listener
	closed func()
}

func (c counted) Close() error {
	defer c.closed()
	return c.Listener.Close()
}

func portOf(t *testing.T, addr string) uint16 {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(a.Port)
}

// lines are those of a log.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// awaits returns when the log says so.
func (l lines) awaits(t *testing.T, what string) {
	t.Helper()
	late := time.After(2 * time.Minute)
	for {
		select {
		case line := <-l:
			if strings.Contains(line, what) {
				return
			}
		case <-late:
			t.Fatalf("the log does not say %q", what)
		}
	}
}

// program answers what it is told, in capitals, until its caller has ended.
func program(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				said := make([]byte, 100)
				for n, err := c.Read(said); err == nil; n, err = c.Read(said) {
					_, _ = c.Write(bytes.ToUpper(said[:n]))
				}
			})
		}
	})
	return l.Addr().String()
}

// ask says hello and the end at a port, and returns what comes back.
func ask(t *testing.T, port string) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", port)
	if err != nil {
		return "", err // it may be reset as soon as it is accepted
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.WriteString(c, "hello"); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	got, err := io.ReadAll(c)
	return string(got), err
}

func TestAProgramWithoutASidecarCallsAServiceAndBothEndsMayEndFirst(t *testing.T) {
	b := start(t, program(t))
	if got, err := ask(t, b.port); got != "HELLO" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestACallThatNobodyServesIsResetAndTheLogSaysWhy(t *testing.T) {
	for name, test := range map[string]struct {
		policies []policy.Policy
		endpoint bool
		says     string
	}{
		"no service": {nil, false, "no service shop/orders in any cluster"},
		"a policy": {[]policy.Policy{{Namespace: "shop", Name: "a", Action: policy.Allow,
			Rules: []policy.Rule{{From: []policy.Callers{{Namespace: "front"}}}}}}, true, "a caller without a sidecar is not served"},
	} {
		endpoint := ""
		if test.endpoint {
			endpoint = program(t)
		}
		b := start(t, endpoint, test.policies...)
		if got, err := ask(t, b.port); err == nil {
			t.Errorf("%s: %q without an error", name, got)
		}
		b.log.awaits(t, test.says)
	}
}

func TestPortsFollowWhatIsWantedAndRunningCallsGoOn(t *testing.T) {
	b := start(t, program(t))
	c, err := net.Dial("tcp", b.port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.WriteString(c, "still "); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len("STILL "))); err != nil {
		t.Fatal(err)
	}
	other := sockettest.Reserve(t)
	b.want(t, map[uint16]mesh.Destination{portOf(t, b.port): ordersAt80, portOf(t, other): ordersAt80})
	b.want(t, map[uint16]mesh.Destination{portOf(t, other): ordersAt80})
	if late, err := net.Dial("tcp", b.port); err == nil {
		_ = late.Close()
		t.Error("a port that is not wanted any more is listened on")
	}
	if got, err := ask(t, other); got != "HELLO" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := io.WriteString(c, "here"); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "HERE" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAPortThatIsTakenIsReportedAndTheOthersAreBound(t *testing.T) {
	b := start(t, program(t))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	b.e.Want(map[uint16]mesh.Destination{portOf(t, b.port): ordersAt80, portOf(t, taken.Addr().String()): ordersAt80})
	if got, err := ask(t, b.port); got != "HELLO" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	b.log.awaits(t, "cannot be bound")
	_ = taken.Close()
	b.want(t, map[uint16]mesh.Destination{portOf(t, b.port): ordersAt80, portOf(t, taken.Addr().String()): ordersAt80})
}
