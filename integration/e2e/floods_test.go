package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
)

const (
	// fewFiles is the RLIMIT_NOFILE of the processes that are flooded, and attackers the
	// connections of each flood: more than that.
	fewFiles  = 1024
	attackers = 1500
	// floodTime is how long each flood lasts once it is there.
	floodTime = 5 * time.Second
	// floodMemory is what a process may grow by during a flood, beside the size that it
	// had before.
	floodMemory = 64 << 20
)

// flooded is a mesh whose strangers come from other addresses of loopback.
type flooded struct {
	*testMesh
	east     *gatewayProc
	near     *sidecarProc
	far      string // a URL that leads to the other cluster
	workload *identity.Source
	gateway  *identity.Source // of another cluster
}

func newFlooded(t *testing.T) *flooded {
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") }))
	t.Cleanup(program.Close)
	m := newMesh(t, "east", "west")
	at := program.Listener.Addr().String()
	m.files = fewFiles
	f := &flooded{testMesh: m, east: m.gateway("east", "east-1")}
	f.near = m.sidecar("east", "near-1", "shop/near", "http", at, "")
	m.files = 0
	m.gateway("west", "west-1")
	m.sidecar("west", "far-1", "shop/far", "http", at, "")
	caller := m.sidecar("east", "caller-1", "shop/caller", "", "", "shop/far")
	f.far = "http://" + caller.listener + "/"
	m.answers(f.far, "fine")
	var err error
	if f.workload, err = identity.Open(m.path("caller-1", "pki")); err != nil {
		t.Fatal(err)
	}
	m.isthmus("pki", "gateway", "--cluster", "west", "west-9", "-d", m.path("pki"), "-o", m.path("west-9", "pki"))
	if f.gateway, err = identity.Open(m.path("west-9", "pki")); err != nil {
		t.Fatal(err)
	}
	return f
}

// peers are those who may call, each by a connection of its own, by port.
func (f *flooded) peers() map[string]func(context.Context) error {
	call := func(c net.Conn, service string) error {
		secure := tls.Client(c, f.workload.ClientTLS(service+".shop.mesh", identitytest.AnyWorkload(), "http/1.1"))
		if _, err := fmt.Fprintf(secure, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", service); err != nil {
			return err
		}
		return okay(secure)
	}
	return map[string]func(context.Context) error{
		"15008": func(ctx context.Context) error {
			return dialling(ctx, f.near.inbound, func(c net.Conn) error { return call(c, "near") })
		},
		"15443": func(ctx context.Context) error {
			return dialling(ctx, f.east.mesh, func(c net.Conn) error {
				if _, err := io.WriteString(c, "CONNECT far.shop.mesh:80 HTTP/1.1\r\nHost: far.shop.mesh:80\r\n\r\n"); err != nil {
					return err
				}
				if err := okay(c); err != nil {
					return err
				}
				return call(c, "far")
			})
		},
		"15012": func(ctx context.Context) error {
			return dialling(ctx, f.east.xds, func(c net.Conn) error {
				secure := tls.Client(c, f.workload.ClientTLS("", identity.GatewayOf("east"), "h2"))
				if err := secure.HandshakeContext(ctx); err != nil {
					return err
				}
				_, err := io.ReadFull(secure, make([]byte, 9)) // the head of its SETTINGS
				return err
			})
		},
		"7443": func(ctx context.Context) error {
			c, err := quic.DialAddr(ctx, f.east.tunnel, f.gateway.ClientTLS("gateway.mesh", identity.AnyGateway(), "isthmus/1"), nil)
			if err != nil {
				return err
			}
			return c.CloseWithError(0, "")
		},
		"the far cluster": func(context.Context) error {
			code, body, err := get(f.far)
			if err == nil && code != http.StatusOK {
				err = fmt.Errorf("%d %s", code, body)
			}
			return err
		},
	}
}

func dialling(ctx context.Context, addr string, do func(net.Conn) error) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	return do(c)
}

// okay reads an answer of 200, byte by byte, since what follows is another's.
func okay(c net.Conn) error {
	resp, err := http.ReadResponse(bufio.NewReaderSize(onebyte{c}, 16), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s", resp.Status, resp.Header.Get("Proxy-Status"))
	}
	return nil
}

type onebyte struct{ io.Reader }

func (o onebyte) Read(b []byte) (int, error) { return o.Reader.Read(b[:1]) }

// calls has every peer call, one call after the other, until stop, and returns how long
// the calls took.
func (f *flooded) calls(during time.Duration) map[string][]time.Duration {
	f.t.Helper()
	took := map[string][]time.Duration{}
	var mu sync.Mutex
	var all sync.WaitGroup
	end := time.Now().Add(during)
	for port, call := range f.peers() {
		all.Go(func() {
			for n := 0; n < 10 || time.Now().Before(end); n++ {
				ctx, cancel := context.WithTimeout(context.Background(), limit)
				began := time.Now()
				err := call(ctx)
				cancel()
				mu.Lock()
				if err != nil {
					f.t.Errorf("a call to %s failed after %v: %v", port, time.Since(began), err)
				}
				took[port] = append(took[port], time.Since(began))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return took
}

// p99 of durations, and how many these are.
func p99(all []time.Duration) string {
	slices.Sort(all)
	return fmt.Sprintf("%v of %d", all[len(all)*99/100].Round(10*time.Microsecond), len(all))
}

// strangers is a flood: connections from eight other addresses, each of which is made
// again a second after it was cut. say says what there is to say until ctx ends.
func strangers(ctx context.Context, all *sync.WaitGroup, addr string, n int, say func(context.Context, net.Conn)) (open *atomic.Int32) {
	open = new(atomic.Int32)
	for i := range n {
		from := net.TCPAddr{IP: net.IPv4(127, 9, 0, byte(1+i%8))}
		all.Go(func() {
			for ctx.Err() == nil {
				if c, err := (&net.Dialer{LocalAddr: &from}).DialContext(ctx, "tcp", addr); err == nil {
					open.Add(1)
					stop := context.AfterFunc(ctx, func() { _ = c.Close() })
					say(ctx, c)
					_, _ = io.Copy(io.Discard, c)
					stop()
					_ = c.Close()
				}
				pause(ctx, time.Second)
			}
		})
	}
	return open
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// clientHello is the first message of a handshake.
func clientHello(t *testing.T) []byte {
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		_ = tls.Client(near, &tls.Config{ServerName: "near.shop.mesh", MinVersion: tls.VersionTLS13}).Handshake()
	}() // far is closed
	b := make([]byte, 16<<10)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// initials is a flood of QUIC handshakes whose clients hear nothing.
func initials(ctx context.Context, all *sync.WaitGroup, addr string, conf *tls.Config) *atomic.Int32 {
	open := new(atomic.Int32)
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return open
	}
	for i := range attackers / 3 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 9, byte(n), byte(1+i%250))})
				if err == nil {
					open.Add(1)
					dial, cancel := context.WithTimeout(ctx, time.Second)
					transport := &quic.Transport{Conn: deaf{socket}}
					_, _ = transport.Dial(dial, to, conf, nil) // nobody answers
					cancel()
					_ = transport.Close()
					_ = socket.Close()
				}
				pause(ctx, time.Second)
			}
		})
	}
	return open
}

// deaf is a socket that hears nothing.
type deaf struct{ net.PacketConn }

func (d deaf) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		if n, addr, err := d.PacketConn.ReadFrom(b); err != nil {
			return n, addr, err
		}
	}
}

// TestFloodsOfStrangersFailNoCall floods each port that strangers reach, with more
// connections than the process may have files. No call of anybody who may call fails
// meanwhile, and no process grows to more than twice its size and 64 MiB. How long the
// calls took is logged, and is nothing that the test judges.
func TestFloodsOfStrangersFailNoCall(t *testing.T) {
	f := newFlooded(t)
	hello := clientHello(t)
	quiet := func(context.Context, net.Conn) {}
	half := func(_ context.Context, c net.Conn) { _, _ = c.Write(hello[:len(hello)/2]) }
	slow := func(ctx context.Context, c net.Conn) {
		for i := range hello {
			if _, err := c.Write(hello[i : i+1]); err != nil {
				return
			}
			pause(ctx, 100*time.Millisecond)
		}
	}
	idle := func(_ context.Context, c net.Conn) {
		_, _ = io.WriteString(c, "CONNECT far.shop.mesh:80 HTTP/1.1\r\nHost: far.shop.mesh:80\r\n\r\n")
	}
	over := func(addr string, say func(context.Context, net.Conn)) func(context.Context, *sync.WaitGroup) *atomic.Int32 {
		return func(ctx context.Context, all *sync.WaitGroup) *atomic.Int32 {
			return strangers(ctx, all, addr, attackers, say)
		}
	}
	before := f.calls(floodTime)
	for port, took := range before {
		t.Logf("without a flood: p99 of calls to %s: %s", port, p99(took))
	}
	for _, flood := range []struct {
		name   string
		target *proc
		begin  func(context.Context, *sync.WaitGroup) *atomic.Int32
	}{
		{"silent connections to 15008", f.near.proc, over(f.near.inbound, quiet)},
		{"half handshakes on 15008", f.near.proc, over(f.near.inbound, half)},
		{"slow handshakes on 15008", f.near.proc, over(f.near.inbound, slow)},
		{"silent connections to 15012", f.east.proc, over(f.east.xds, quiet)},
		{"half handshakes on 15012", f.east.proc, over(f.east.xds, half)},
		{"slow handshakes on 15012", f.east.proc, over(f.east.xds, slow)},
		{"silent connections to 15443", f.east.proc, over(f.east.mesh, quiet)},
		{"half handshakes on 15443", f.east.proc, over(f.east.mesh, half)},
		{"paths on which nothing comes", f.east.proc, func(ctx context.Context, all *sync.WaitGroup) *atomic.Int32 {
			// Each of them is one at the far sidecar, too, where all come from one gateway.
			return strangers(ctx, all, f.east.mesh, attackers/3, idle)
		}},
		{"QUIC handshakes on 7443", f.east.proc, func(ctx context.Context, all *sync.WaitGroup) *atomic.Int32 {
			return initials(ctx, all, f.east.tunnel, f.gateway.ClientTLS("gateway.mesh", identity.AnyGateway(), "isthmus/1"))
		}},
	} {
		t.Run(flood.name, func(t *testing.T) {
			was := memory(t, flood.target)
			ctx, cancel := context.WithCancel(context.Background())
			var all sync.WaitGroup
			made := flood.begin(ctx, &all)
			largest := 0
			all.Go(func() {
				for ctx.Err() == nil {
					largest = max(largest, memory(t, flood.target))
					pause(ctx, 50*time.Millisecond)
				}
			})
			f.t = t
			took := f.calls(floodTime)
			cancel()
			all.Wait()
			t.Logf("%d attempts; %s had %d MiB, then %d at most", made.Load(), flood.target.Name, was>>20, largest>>20)
			for port, times := range took {
				t.Logf("p99 of calls to %s: %s", port, p99(times))
			}
			if made.Load() < attackers/4 {
				t.Errorf("%d attempts are no flood", made.Load())
			}
			if largest > 2*was+floodMemory {
				t.Errorf("%s grew from %d to %d MiB", flood.target.Name, was>>20, largest>>20)
			}
		})
	}
	f.testMesh.t = t
}
