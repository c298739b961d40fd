package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// flooder is a hostile client of HTTP/2 on one connection.
type flooder struct {
	*http2.Framer // what it says, into a buffer
	out           bytes.Buffer
	block         []byte // a good head, encoded without the table
	stream        uint32 // the last that it opened
}

func newFlooder() *flooder {
	f := &flooder{}
	f.out.WriteString(http2.ClientPreface)
	f.Framer = http2.NewFramer(&f.out, nil)
	f.AllowIllegalWrites = true
	_ = f.WriteSettings() // into memory, as all that follows
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSizeLimit(0)
	for _, x := range fieldsOf(":method", "POST", ":scheme", "http", ":path", "/flood", ":authority", "orders.shop.mesh") {
		_ = e.WriteField(x)
	}
	f.block = b.Bytes()
	return f
}

// open begins a request on a stream of its own.
func (f *flooder) open(end bool) uint32 {
	f.next()
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.stream, BlockFragment: f.block, EndHeaders: true, EndStream: end})
	return f.stream
}

func (f *flooder) next() {
	if f.stream == 0 {
		f.stream = 1
	} else {
		f.stream += 2
	}
}

// flood is an attack, in pieces that are written one after the other until the connection has ended.
type flood struct {
	name   string
	pieces int // after which it must have ended
	write  func(f *flooder, n int)
	// ping says that a PING behind the pieces is answered by who has not ended the connection.
	ping bool
	// each says that every piece is written by itself.
	each bool
}

// prematureResets is how many streams that end before they are answered have a connection take no more.
const prematureResets = 500 + 1 // the next is the first that is not taken

// together is how many streams begin before the first of them is reset, where that is the attack.
const together = 50

// Streams that are reset for a fault have a budget of their own, and those of them that are
// refused, since too many are at work, count as premature: together they are twice as many.
var floods = []flood{
	{"streams that are reset at once", prematureResets, func(f *flooder, _ int) {
		_ = f.WriteRSTStream(f.open(true), http2.ErrCodeCancel)
	}, true, false},
	{"streams that are reset once they have begun", 2 * (prematureResets/together + 1), func(f *flooder, n int) {
		for i := range uint32(together) {
			if n%2 == 0 {
				f.open(true)
			} else {
				_ = f.WriteRSTStream(f.stream-2*i, http2.ErrCodeCancel)
			}
		}
	}, true, true},
	{"streams that the server has to reset: no window", 2 * prematureResets, func(f *flooder, _ int) {
		_ = f.WriteWindowUpdate(f.open(false), 0)
	}, true, false},
	{"streams that the server has to reset: a window too large", 2 * prematureResets, func(f *flooder, _ int) {
		_ = f.WriteWindowUpdate(f.open(false), math.MaxInt32)
	}, true, false},
	{"streams that the server has to reset: DATA behind the end", 2 * prematureResets, func(f *flooder, _ int) {
		_ = f.WriteData(f.open(true), true, []byte("x"))
	}, true, false},
	{"streams that the server has to reset: malformed heads", 2 * prematureResets, func(f *flooder, _ int) {
		f.next()
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.stream, BlockFragment: f.block[:1], EndHeaders: true, EndStream: true})
	}, true, false},
	{"a head that never ends", (256 << 10) / 16384, func(f *flooder, n int) {
		if n == 0 {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block})
		}
		_ = f.WriteContinuation(1, false, bytes.Repeat([]byte("\x00\x01x\x01x"), 16384/5))
	}, false, false},
	{"a head of empty frames", 100_000, func(f *flooder, n int) {
		if n == 0 {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block})
		}
		_ = f.WriteContinuation(1, false, nil)
	}, false, false},
	{"pings", 200_000, func(f *flooder, _ int) { _ = f.WritePing(false, [8]byte{}) }, false, false},
	{"settings", 200_000, func(f *flooder, _ int) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	}, false, false},
	{"empty data", 200_000, func(f *flooder, n int) {
		if n == 0 {
			f.open(false)
		}
		_ = f.WriteData(1, false, nil)
	}, false, false},
	{"windows", 200_000, func(f *flooder, n int) {
		if n == 0 {
			f.open(false)
		}
		_ = f.WriteWindowUpdate(1, 1)
	}, false, false},
}

var (
	lastPing  = [8]byte{1} // behind the last piece, where a PING is no part of the attack
	errGoesOn = errors.New("the connection goes on")
)

// run makes the attack and waits until the connection has ended.
func (a flood) run(address string) error {
	c, err := net.Dial("tcp4", address)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	type end struct {
		goaway *http2.GoAwayFrame
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		var e end
		r := http2.NewFramer(io.Discard, bufio.NewReader(c))
		for {
			f, err := r.ReadFrame()
			if err != nil {
				e.err = err
				ended <- e
				return
			}
			switch f := f.(type) {
			case *http2.GoAwayFrame:
				e.goaway = &http2.GoAwayFrame{ErrCode: f.ErrCode}
				ended <- e
				return
			case *http2.PingFrame:
				if f.Data == lastPing {
					e.err = errGoesOn
					ended <- e
					return
				}
			}
		}
	}()
	f := newFlooder()
	for n := range a.pieces {
		a.write(f, n)
		if n == a.pieces-1 && a.ping {
			_ = f.WritePing(false, lastPing)
		}
		if f.out.Len() < 16<<10 && !a.each && n < a.pieces-1 {
			continue
		}
		if _, err := c.Write(f.out.Bytes()); err != nil {
			break // it has ended
		}
		f.out.Reset()
	}
	e := <-ended
	var timeout net.Error
	switch {
	case errors.Is(e.err, errGoesOn), errors.As(e.err, &timeout) && timeout.Timeout():
		return errGoesOn
	case e.goaway != nil && e.goaway.ErrCode == http2.ErrCodeNo:
		return fmt.Errorf("GOAWAY says %v", e.goaway.ErrCode)
	}
	return nil
}

// bystander makes requests on a connection of its own until it is stopped, one at least. Every
// one has to be answered.
func bystander(t *testing.T, address string, stop <-chan struct{}) {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: limit}
	for n := 0; ; n++ {
		if n > 0 {
			select {
			case <-stop:
				return
			default:
			}
		}
		resp, err := client.Get("http://" + address + "/bystander")
		if err != nil {
			t.Errorf("a bystander of %s after %d requests: %v", address, n, err)
			return
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || string(b) != "/bystander" {
			t.Errorf("a bystander of %s after %d requests: %s %q, %v", address, n, resp.Status, b, err)
			return
		}
	}
}

// memoryOf is the resident memory of a process, in bytes.
func memoryOf(t *testing.T, p *proc) uint64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\nVmRSS:")
	kib, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

func TestAFloodOfHTTP2EndsItsOwnConnectionAndNoOther(t *testing.T) {
	t.Parallel()
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/flood" { // never answered, so that every reset is premature
			_, _ = io.Copy(io.Discard, r.Body) // or net/http does not notice the connection's end
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, r.RequestURI)
	}))
	t.Cleanup(program.Close)
	m, caller, orders := aPair(t, "http", program.Listener.Addr().String())
	m.answers("http://"+caller.listener+"/ready", "/ready")
	for _, of := range []struct {
		from    string
		address string
		sidecar *sidecarProc
	}{
		{"a program, in plain text", caller.listener, caller},
		{"a sidecar, by mTLS", m.asSidecar("web-1", orders), orders},
	} {
		t.Run(of.from, func(t *testing.T) {
			few := floods[0]
			few.pieces = prematureResets / 5
			if err := few.run(of.address); !errors.Is(err, errGoesOn) {
				t.Errorf("%d resets end a connection: %v", few.pieces, err)
			}
			before := memoryOf(t, of.sidecar.proc)
			for _, a := range floods {
				stop := make(chan struct{})
				var done sync.WaitGroup
				done.Go(func() { bystander(t, of.address, stop) })
				if err := a.run(of.address); err != nil {
					t.Errorf("%s: %v", a.name, err)
				}
				close(stop)
				done.Wait()
				bystander(t, of.address, stop)
			}
			const most = 96 << 20 // what a sidecar with the load of all that has
			if after := memoryOf(t, of.sidecar.proc); after > before+most {
				t.Errorf("the sidecar has %d MiB, and had %d before", after>>20, before>>20)
			}
		})
	}
}

// witnesses make requests at a rate, each on a connection of its own, until ctx ends, and return how
// long the answers took. Every one has to come.
func witnesses(ctx context.Context, t *testing.T, address string, n int, every time.Duration) []time.Duration {
	var all sync.WaitGroup
	took := make([][]time.Duration, n)
	for i := range took {
		all.Go(func() {
			tr := &http.Transport{Protocols: new(http.Protocols)}
			tr.Protocols.SetUnencryptedHTTP2(true)
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr, Timeout: limit}
			tick := time.NewTicker(every)
			defer tick.Stop()
			for ctx.Err() == nil {
				start := time.Now()
				resp, err := client.Get("http://" + address + "/witness")
				if err != nil {
					t.Errorf("a witness of %s after %d requests: %v", address, len(took[i]), err)
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("a witness of %s after %d requests: %s, %v", address, len(took[i]), resp.Status, err)
					return
				}
				took[i] = append(took[i], time.Since(start))
				<-tick.C
			}
		})
	}
	all.Wait()
	return slices.Concat(took...)
}

// noFlood is a connection with a PING: what each flood costs beside what it does.
var noFlood = flood{"connections without a flood", 1, func(*flooder, int) {}, true, false}

// TestWhatFloodsOfHTTP2CostOthers logs how long the answers to others take without a flood, beside
// as many connections that do nothing, during each flood, and during the same flood of a listener
// that drops it, which is what the attackers themselves cost this machine. It judges no time: README.md has figures. LONG=1 makes
// it long enough to be quoted.
func TestWhatFloodsOfHTTP2CostOthers(t *testing.T) {
	during := 200 * time.Millisecond
	if os.Getenv("LONG") != "" {
		during = 2 * time.Second
	}
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/flood" {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}
	}))
	t.Cleanup(program.Close)
	m, caller, orders := aPair(t, "http", program.Listener.Addr().String())
	m.answers("http://"+caller.listener+"/ready", "")
	drops := dropping(t)
	for _, of := range []struct{ from, address string }{{"plain", caller.listener}, {"mTLS", m.asSidecar("web-1", orders)}} {
		measure := func(target string, a *flood) []time.Duration {
			ctx, cancel := context.WithTimeout(t.Context(), during)
			defer cancel()
			var attackers sync.WaitGroup
			for range 4 {
				if a != nil {
					attackers.Go(func() {
						for ctx.Err() == nil {
							_ = a.run(target) // that it ends is another test
							pause(ctx, 20*time.Millisecond)
						}
					})
				}
			}
			defer attackers.Wait()
			return witnesses(ctx, t, of.address, 10, 5*time.Millisecond)
		}
		measure("", nil)
		t.Logf("%s, no flood: p99 %s; %s: p99 %s", of.from, p99(measure("", nil)), noFlood.name, p99(measure(of.address, &noFlood)))
		for i := range floods {
			t.Logf("%s, %s: p99 %s; the flood elsewhere: %s", of.from, floods[i].name, p99(measure(of.address, &floods[i])), p99(measure(drops, &floods[i])))
		}
	}
}

// dropping is the address of a listener that reads for a moment, and then closes.
func dropping(t *testing.T) string {
	t.Helper()
	return accepting(t, func(c net.Conn) {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = io.Copy(io.Discard, c)
	})
}
