package interception

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception/hooks"
	"github.com/isthmus-mesh/isthmus/interception/nft"
)

// ownNetwork moves the test into a network namespace of its own, with loopback
// only, so that its table concerns nobody else. The thread ends with the test.
func ownNetwork(t *testing.T) {
	needRoot(t)
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatalf("set loopback up: %v", err)
	}
}

// answerHere is answerDatagrams in the network namespace of the test.
func answerHere(t *testing.T, r *Handle, p net.PacketConn) {
	t.Helper()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { p.Close(); <-ended; here.Close() })
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		answerDatagrams(r, p)
	}()
}

// redirected is a host whose program is captured by nftables. Captured are
// addresses that loopback routes.
func redirected(t *testing.T) (*host, *Handle) {
	ownNetwork(t)
	h := newHost(t)
	h.config.Captured = []netip.Prefix{direct}
	r, err := redirect(h.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := nft.Remove("app"); err != nil {
			t.Error(err)
		}
	})
	for _, l := range append(h.outbound, h.dns...) {
		go tellAsked(nft.OriginalDestination, l)
	}
	return h, r
}

func TestNftablesRedirectsTheProgramAndConntrackKnowsWhatItAskedFor(t *testing.T) {
	h, _ := redirected(t)
	addr, came := counted(t)
	for _, c := range []struct{ domain, peer string }{{"4", addr}, {"6", "[::ffff:127.66.0.7]" + addr[strings.LastIndex(addr, ":"):]}} {
		got := h.program("tcp", c.domain, addr)
		if want := (seen{Peer: c.peer, Answer: "asked " + addr}); got != want {
			t.Errorf("the program saw %+v, want %+v", got, want)
		}
	}
	if got := h.program("tcp", "4", h.outbound[0].Addr().String()); got.Answer != "not captured" {
		t.Errorf("a connection to the sidecar itself: %+v", got)
	}
	if got := h.program("tcp", "4", "127.0.0.9:53"); got.Answer != "asked 127.0.0.9:53" {
		t.Errorf("DNS over TCP: %+v", got)
	}
	if got := h.program("udp", "4", "unconnected", addr); got.Err == "" {
		t.Errorf("UDP to the mesh: %+v", got)
	}
	if n := came.Load(); n != 0 {
		t.Errorf("%d connections went out directly", n)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := read(t, c); got != "direct" {
		t.Errorf("the sidecar's own connection reached %q", got)
	}
}

func TestNftablesRedirectsDNSAndTheServerThatWasAskedIsKnownAndAppearsToAnswer(t *testing.T) {
	h, r := redirected(t)
	answerHere(t, r, h.dnsUDP[0])
	for _, how := range []string{"connected", "unconnected"} {
		got := h.program("udp", "4", how, "127.0.0.9:53")
		if want := (seen{Peer: "127.0.0.9:53", Answer: "answer to question for 127.0.0.9:53"}); got != want {
			t.Errorf("%s: the program saw %+v, want %+v", how, got, want)
		}
	}
}

func TestNftablesRedirectsIPv6(t *testing.T) {
	ownNetwork(t)
	h := newHost(t)
	h.needIPv6()
	// An address that loopback routes and on which nobody listens.
	h.config.Captured = []netip.Prefix{mesh6}
	if err := addLoopbackAddress("fd69:7374:6d75::7"); err != nil {
		t.Skipf("cannot add an IPv6 address: %v", err)
	}
	r, err := redirect(h.config)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go tellAsked(nft.OriginalDestination, h.outbound[1])
	answerHere(t, r, h.dnsUDP[1])
	got := h.program("tcp", "6", "[fd69:7374:6d75::7]:80")
	if want := (seen{Peer: "[fd69:7374:6d75::7]:80", Answer: "asked [fd69:7374:6d75::7]:80"}); got != want {
		t.Errorf("the program saw %+v, want %+v", got, want)
	}
	got = h.program("udp", "6", "unconnected", "[fd69:7374:6d75::7]:53")
	if want := (seen{Peer: "[fd69:7374:6d75::7]:53", Answer: "answer to question for [fd69:7374:6d75::7]:53"}); got != want {
		t.Errorf("the program saw %+v, want %+v", got, want)
	}
}

func TestClosedNftablesRefuseWithoutASidecarUntilTheTableIsRemoved(t *testing.T) {
	h, r := redirected(t)
	addr, came := counted(t)
	for _, l := range h.outbound {
		l.Close()
	}
	if got := h.program("tcp", "4", addr); got.Err != "connection refused" || came.Load() != 0 {
		t.Errorf("the program saw %+v, %d came directly", got, came.Load())
	}
	if _, err := redirect(h.config); err != nil { // a sidecar that was killed and is back
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := h.program("tcp", "4", addr); got.Answer != "direct" {
		t.Errorf("after the removal: %+v", got)
	}
	if removed, err := nft.Remove("app"); err != nil || removed {
		t.Errorf("remove again: removed %v, %v", removed, err)
	}
}

func TestWhatNftablesCannotDoIsSaid(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	open, inbound, many := h.config, h.config, h.config
	open.OnFailure = hooks.FailOpen
	inbound.Inbound = []uint16{80}
	many.Captured = nil
	for i := range nft.MaxCaptured + 1 {
		many.Captured = append(many.Captured, netip.MustParsePrefix(fmt.Sprintf("240.%d.%d.0/24", i/256, i%256)))
	}
	for _, c := range []Config{open, inbound, many} {
		if _, err := redirect(c); err == nil || !strings.Contains(err.Error(), "eBPF") {
			t.Errorf("%v", err)
		}
	}
}
