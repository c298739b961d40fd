package dns

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// lockedBuffer is a buffer for a log that many goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// exhaust uses up the descriptors of this process until the test ends.
func exhaust(t *testing.T) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	var held []*os.File
	t.Cleanup(func() {
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
		for _, f := range held {
			_ = f.Close()
		}
	})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 256, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	for range 256 {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, f)
	}
	t.Fatal("descriptors do not run out")
}

func TestWithoutDescriptorsIdleConnectionsGoAndThenQuestionsFailAtOnce(t *testing.T) {
	up := outside(t, echo)
	var lines lockedBuffer
	s := serve(t, shop(), func(c *Config) {
		c.ResolvConf = naming(up)
		c.Log = slog.New(slog.NewTextHandler(&lines, nil))
	})
	packet, _ := question("example.com", dns.TypeA).Pack()
	ours, _ := question("orders.shop.mesh", dns.TypeA).Pack()
	dial := func(network string) net.Conn {
		c, err := net.Dial(network, addrOf(s).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	idle, datagrams := dial("tcp"), dial("udp")
	exchange := func(packet []byte) []byte {
		b := make([]byte, maxMessage)
		if _, err := datagrams.Write(packet); err != nil {
			t.Fatal(err)
		}
		n, err := datagrams.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return b[:n]
	}
	_ = writeMessage(idle, packet)
	if _, err := readMessage(idle); err != nil {
		t.Fatal(err)
	}
	exhaust(t)
	for !bytes.Equal(exchange(packet), echo("", packet)[0]) { // it is idle a moment after its answer
	}
	if _, err := readMessage(idle); err == nil {
		t.Error("the idle connection is still there")
	}
	exhaust(t)     // what that had, too
	for range 20 { // in less time than the four of these that may wait 5 s take
		if got := exchange(packet); got[3]&rcodeBits != dns.RcodeServerFailure {
			t.Errorf("with nothing to end: %x", got)
		}
		if got := exchange(ours); got[3]&rcodeBits != dns.RcodeSuccess {
			t.Errorf("a mesh name, which needs no descriptor: %x", got)
		}
	}
	if n := strings.Count(lines.String(), "no descriptors"); n != 1 {
		t.Errorf("%d lines about it, want 1:\n%s", n, lines.String())
	}
}

func TestTheLackOfDescriptorsIsLoggedOnceAMinuteWithACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		log := slog.New(slog.NewTextHandler(&lines, nil))
		var s shortage
		for range 120 {
			s.report(log, syscall.EMFILE)
			time.Sleep(time.Second)
		}
		if n := bytes.Count(lines.Bytes(), []byte("\n")); n != 2 || !bytes.Contains(lines.Bytes(), []byte("failed=60")) {
			t.Errorf("logged\n%s", &lines)
		}
	})
}

func TestAConnectionWithAQuestionThatWaitsIsNotIdle(t *testing.T) {
	release := make(chan struct{})
	up := outside(t, func(network string, b []byte) [][]byte {
		<-release
		return echo(network, b)
	})
	s := serve(t, shop(), func(c *Config) { c.ResolvConf = naming(up) })
	c, err := net.Dial("tcp", addrOf(s).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	packet, _ := question("example.com", dns.TypeA).Pack()
	ours, _ := question("orders.shop.mesh", dns.TypeA).Pack()
	_ = writeMessage(c, packet)
	_ = writeMessage(c, ours)
	if _, err := readMessage(c); err != nil { // to ours
		t.Fatal(err)
	}
	if n := s.conns.Shed(); n != 0 {
		t.Errorf("%d connections ended while a server is waited for", n)
	}
	close(release)
	if _, err := readMessage(c); err != nil {
		t.Fatal(err)
	}
}

func TestOneClientLeavesRoomForTheOthers(t *testing.T) {
	var w waiting
	greedy, other := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
	for range maxPerClient {
		if !w.begin(greedy) {
			t.Fatal("refused too early")
		}
	}
	if w.begin(greedy) || !w.begin(other) {
		t.Error("one client may have all, or the other has nothing")
	}
	w.end(greedy)
	if !w.begin(greedy) {
		t.Error("refused after an answer")
	}
	for i := range maxQuestions - maxPerClient - 1 {
		if !w.begin(netip.AddrPortFrom(other.Addr(), uint16(i+10))) {
			t.Fatalf("client %d is refused", i)
		}
	}
	if w.begin(other) {
		t.Error("more than all")
	}
}
