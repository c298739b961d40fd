package interception

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// accelerated is a sidecar that echoes what captured programs say.
func acceleratedHost(t *testing.T) (*host, *Handle) {
	h := newHost(t)
	i := h.attach()
	if err := i.TryAcceleration(); err != nil {
		t.Fatal(err)
	}
	if err := i.Serve(Sockets{Outbound: h.outbound}); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		h.outbound[0].Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			c, err := h.outbound[0].Accept()
			if err != nil {
				return
			}
			if _, ok := i.OriginalDestination(c); !ok {
				c.Close() // reset long ago, and its port used again
				continue
			}
			serving.Go(func() { echo(h.accelerate(i, c)) })
		}
	})
	return h, i
}

func (h *host) accelerate(i *Handle, c net.Conn) halfCloser {
	if f, ok := i.Accelerate(c.(*net.TCPConn)); ok {
		return f
	}
	return c.(*net.TCPConn)
}

// left reports what the hooks still hold of connections that are over.
func (h *host) left(t *testing.T) {
	t.Helper()
	var key bpf.KernelPair
	var flow bpf.KernelFlow
	if entries := h.pinned(bpf.KernelMapFlows).Iterate(); entries.Next(&key, &flow) {
		t.Errorf("a flow from %s to %s is left", key.Local.AddrPort(), key.Remote.AddrPort())
	}
	var read bpf.KernelCaught
	if entries := h.pinned(bpf.KernelMapCaughtUp).Iterate(); entries.Next(&key, &read) {
		t.Errorf("what was read from %s is left", key.Local.AddrPort())
	}
}

func TestThisKernelPassesTheSelfTest(t *testing.T) {
	h := newHost(t)
	i := h.attach()
	if err := i.TryAcceleration(); err != nil {
		t.Error(err)
	}
	h.left(t)
}

func TestWhatAProgramAndItsSidecarSayArrivesInOrderWhateverTheWay(t *testing.T) {
	h, i := acceleratedHost(t)
	for _, c := range []struct {
		way                            string
		connections, messages, largest int
	}{
		{"turns", 8, 200, 4 << 10},
		{"turns", 4, 20, 1 << 20}, // more than may be redirected
		{"stream", 8, 400, 8 << 10},
		{"stream", 4, 40, 1 << 20},
		{"last", 8, 100, 64 << 10},
		{"turns", 64, 1, 100}, // most are closed before the sidecar is ready for them
	} {
		t.Run(c.way, func(t *testing.T) {
			before, err := i.hooks.Stats()
			if err != nil {
				t.Fatal(err)
			}
			got := h.program("talk", "240.66.0.7:80", strconv.Itoa(c.connections), strconv.Itoa(c.messages), strconv.Itoa(c.largest), c.way)
			if got.Err != "" {
				t.Error(got.Err)
			}
			after, err := i.hooks.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if n := after.Accelerated - before.Accelerated; n != uint64(c.connections) {
				t.Errorf("%d connections were prepared, want %d", n, c.connections)
			}
			redirected, by := after.Redirected-before.Redirected, after.ByTCP-before.ByTCP
			t.Logf("%d messages were redirected and %d went by TCP", redirected, by)
			if c.way == "turns" && c.largest < 64<<10 && redirected == 0 {
				t.Error("nothing was redirected")
			}
			h.left(t)
		})
	}
}

func TestWhatIsLeftOfAnEarlierConnectionIsNotBelieved(t *testing.T) {
	h, _ := acceleratedHost(t)
	sidecar := h.outbound[0].Addr().(*net.TCPAddr).AddrPort()
	free := says(t, "127.0.0.1:0", "")
	source := free.Addr().(*net.TCPAddr).AddrPort()
	free.Close()
	program := bpf.KernelPair{Local: bpf.EndpointOf(source), Remote: bpf.EndpointOf(sidecar)}
	flows, caughtUp := h.pinned(bpf.KernelMapFlows), h.pinned(bpf.KernelMapCaughtUp)
	for read := range uint64(20) {
		if err := flows.Put(bpf.KernelPair{Local: program.Remote, Remote: program.Local}, bpf.KernelFlow{}); err != nil {
			t.Fatal(err)
		}
		if err := caughtUp.Put(program, bpf.KernelCaught{Born: 1, Read: read}); err != nil {
			t.Fatal(err)
		}
		if got := h.program("talk", "240.66.0.7:80", "1", "20", "2", "stream", source.String()); got.Err != "" {
			t.Fatal(got.Err)
		}
	}
	h.left(t)
}

func TestAConnectionThatEndsBeforeTheSidecarIsReadyLeavesNothing(t *testing.T) {
	h, _ := acceleratedHost(t)
	for range 10 {
		if _, err := h.child("connects", "240.66.0.7:80", "200").Output(); err != nil {
			t.Fatal(err)
		}
	}
	flows := h.pinned(bpf.KernelMapFlows)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // until the sidecar has seen all of them
		var key bpf.KernelPair
		var flow bpf.KernelFlow
		if entries := flows.Iterate(); !entries.Next(&key, &flow) || time.Now().After(deadline) {
			break
		}
	}
	h.left(t)
}

func TestTheSidecarsConnectionsToTheProgramAreAccelerated(t *testing.T) {
	h := newHost(t)
	i := h.attach()
	if err := i.TryAcceleration(); err != nil {
		t.Fatal(err)
	}
	cmd := h.child("echo", "127.0.0.1:0")
	out, stop := h.start(cmd)
	defer func() { _ = cmd.Process.Kill(); stop() }()
	program := firstLine(t, out)
	c, err := i.DialProgram(t.Context(), program, netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	f := h.accelerate(i, c)
	for n := range 100 {
		message := []byte(strconv.Itoa(n))
		if _, err := f.Write(message); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(message))
		if _, err := f.Read(got); err != nil || string(got) != string(message) {
			t.Fatalf("%q, %v, want %q", got, err, message)
		}
	}
	f.Close()
	s, err := i.hooks.Stats()
	if err != nil || s.Accelerated != 1 || s.Redirected < 150 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

func TestWhatIsSentWithTheSYNArrivesBeforeWhatFollows(t *testing.T) {
	h := newHost(t)
	i := h.attach()
	if err := i.TryAcceleration(); err != nil {
		t.Fatal(err)
	}
	if err := i.Serve(Sockets{Outbound: h.outbound}); err != nil {
		t.Fatal(err)
	}
	cmd := h.child("early", "240.66.0.7:80")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := h.startWith(cmd, in)
	firstLine(t, out)
	c, err := h.outbound[0].Accept()
	if err != nil {
		t.Fatal(err)
	}
	f := h.accelerate(i, c)
	fmt.Fprintln(in, "go on")
	firstLine(t, out)
	if got := read(t, f); got != "first, second" {
		t.Errorf("the sidecar read %q", got)
	}
	f.Close()
}

func TestConnectionsStayWithTCPWhenAccelerationIsOff(t *testing.T) {
	h, i := acceleratedHost(t)
	if err := i.StopAcceleration(); err != nil {
		t.Fatal(err)
	}
	before, err := i.hooks.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if got := h.program("talk", "240.66.0.7:80", "4", "20", "1000", "turns"); got.Err != "" {
		t.Error(got.Err)
	}
	after, err := i.hooks.Stats()
	if err != nil || after.Accelerated != before.Accelerated || after.Redirected != before.Redirected || after.ByTCP != before.ByTCP {
		t.Errorf("stats %+v, then %+v, %v", before, after, err)
	}
}
