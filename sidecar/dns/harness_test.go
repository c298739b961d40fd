package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/sidecar/routes"
)

// catalog is a control plane that knows services, and answers for the names in late
// only when that is closed.
type catalog struct {
	services map[string][]mesh.RoutePort
	late     chan struct{} // nil: at once
	waits    chan struct{} // unless nil, told of each question that waits for late

	mu    sync.Mutex
	asked []string
}

func (c *catalog) ports(ctx context.Context, d mesh.Destination) ([]mesh.RoutePort, error) {
	c.mu.Lock()
	c.asked = append(c.asked, fmt.Sprintf("%s port %d", d.Host(), d.Port))
	c.mu.Unlock()
	if c.late != nil {
		if c.waits != nil {
			c.waits <- struct{}{}
		}
		select {
		case <-c.late:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if p, ok := c.services[d.Host()]; ok {
		return p, nil
	}
	return nil, routes.ErrAbsent
}

// unknown is a control plane that no gateway answers for.
func unknown(context.Context, mesh.Destination) ([]mesh.RoutePort, error) {
	return nil, errors.New("no gateway has answered yet")
}

func shop() *catalog {
	return &catalog{services: map[string][]mesh.RoutePort{
		"orders.shop.mesh":      {{Number: 80, Protocol: mesh.HTTP}, {Number: 5432, Protocol: mesh.TCP}},
		"orders.shop.west.mesh": {{Number: 80, Protocol: mesh.HTTP}},
	}}
}

// serve runs a server until the test ends.
func serve(t testing.TB, c *catalog, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Ports: c.ports}
	if change != nil {
		change(&cfg)
	}
	if cfg.Table == nil {
		cfg.Table = open(t, "")
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// naming is a resolv.conf that names these servers for good.
func naming(servers ...netip.AddrPort) *ResolvConf {
	return &ResolvConf{current: resolvers{servers: servers}}
}

// question is a message as a resolver sends it.
func question(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	return m
}

// ask asks s over "udp" or "tcp".
func ask(t testing.TB, s *Server, network string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: 10 * time.Second}
	r, _, err := c.Exchange(m, addrOf(s).String())
	if err != nil {
		t.Fatalf("%s %s: %v", network, m.Question[0].Name, err)
	}
	return r
}

// texts returns the answers without their headers' constants.
func texts(rrs []dns.RR) string {
	var all []string
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeOPT {
			all = append(all, strings.ReplaceAll(rr.String(), "\t5\tIN", ""))
		}
	}
	return strings.ReplaceAll(strings.Join(all, "; "), "\t", " ")
}

// outside is a server of the world outside, on one port for UDP and TCP. It hands
// each question as it came to answer, which returns the messages to send back.
func outside(t testing.TB, answer func(network string, packet []byte) [][]byte) netip.AddrPort {
	t.Helper()
	l, u := pair(t)
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = u.Close()
		_ = l.Close()
		running.Wait()
	})
	running.Go(func() {
		buf := make([]byte, maxMessage)
		for {
			n, from, err := u.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			for _, b := range answer("udp", buf[:n]) {
				_, _ = u.WriteToUDPAddrPort(b, from)
			}
		}
	})
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				for {
					b, err := readMessage(c)
					if err != nil {
						return
					}
					for _, b := range answer("tcp", b) {
						if b == nil || writeMessage(c, b) != nil { // nil: hang up
							return
						}
					}
				}
			})
		}
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// pair binds one port for both transports.
func pair(t testing.TB) (net.Listener, *net.UDPConn) {
	t.Helper()
	for range 10 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(l.Addr().(*net.TCPAddr).AddrPort()))
		if err == nil {
			return l, u
		}
		_ = l.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// nobody is an address where nobody answers: over UDP by an ICMP, over TCP by a reset.
func nobody(t testing.TB) netip.AddrPort {
	l, u := pair(t)
	_, _ = l.Close(), u.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// addrOf returns where a server listens that is ready.
func addrOf(s *Server) netip.AddrPort { return s.Listeners()[0].Addr().(*net.TCPAddr).AddrPort() }
