package interception

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// needRoot skips without the privilege that the hooks take; continuous
// integration must have it.
func needRoot(t testing.TB) {
	t.Helper()
	reason := ""
	if os.Getuid() != 0 {
		reason = "needs root to attach eBPF programs"
	} else if _, err := CgroupRoot(); err != nil {
		reason = err.Error()
	}
	switch {
	case reason == "":
	case os.Getenv("CI") == "true":
		t.Fatal(reason)
	default:
		t.Skip(reason)
	}
}

// host is a place for one sidecar and one program: a cgroup and a bpffs that go
// away with the test.
type host struct {
	t         testing.TB
	cgroup    string
	directory string
	outbound  []net.Listener // 127.0.0.1 and, where there is IPv6, ::1
	dns       []net.Listener
	dnsUDP    []net.PacketConn
	config    Config
}

var (
	mesh4 = netip.MustParsePrefix("240.66.0.0/16")
	mesh6 = netip.MustParsePrefix("fd69:7374:6d75::/48")
	// direct is an address range that also works when it is not captured.
	direct = netip.MustParsePrefix("127.66.0.0/16")
)

func newHost(t testing.TB) *host {
	needRoot(t)
	root, err := CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	cgroup, err := os.MkdirTemp(root, "isthmus-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(cgroup); err != nil {
			t.Errorf("remove cgroup: %v", err)
		}
	})
	base := filepath.Join(t.TempDir(), "bpf")
	h := &host{t: t, cgroup: cgroup, directory: base}
	t.Cleanup(func() {
		if _, err := Detach(base, "app"); err != nil {
			t.Error(err)
		}
		if err := unix.Unmount(base, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
			t.Errorf("unmount: %v", err)
		}
	})
	h.outbound = h.listen()
	for range 100 { // until nobody else has the port for UDP
		h.dns = h.listen()
		if h.dnsUDP = h.besides(h.dns); h.dnsUDP != nil {
			break
		}
	}
	if h.dnsUDP == nil {
		t.Fatal("no port is free for both TCP and UDP")
	}
	h.config = Config{
		Name:         "app",
		Directory:    base,
		Cgroup:       cgroup,
		Captured:     []netip.Prefix{mesh4, mesh6, direct},
		OutboundPort: portOf(h.outbound[0]),
		DNSPort:      portOf(h.dns[0]),
	}
	return h
}

// besides takes the listeners' ports for UDP too; nil when somebody has one.
func (h *host) besides(listeners []net.Listener) []net.PacketConn {
	h.t.Helper()
	var packets []net.PacketConn
	for _, l := range listeners {
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			return nil
		}
		h.t.Cleanup(func() { p.Close() })
		packets = append(packets, p)
	}
	return packets
}

func portOf(l net.Listener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }

// listenTCP listens without multipath TCP, as a sidecar does.
func listenTCP(address string) (net.Listener, error) {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	return plain.Listen(context.Background(), "tcp", address)
}

// listen takes one port on 127.0.0.1 and ::1.
func (h *host) listen() []net.Listener {
	h.t.Helper()
	for range 100 {
		l4, err := listenTCP("127.0.0.1:0")
		if err != nil {
			h.t.Fatal(err)
		}
		l6, err := listenTCP(fmt.Sprintf("[::1]:%d", portOf(l4)))
		if err != nil && strings.Contains(err.Error(), "in use") {
			l4.Close()
			continue
		}
		h.t.Cleanup(func() { l4.Close() })
		if err != nil {
			return []net.Listener{l4} // a host without IPv6
		}
		h.t.Cleanup(func() { l6.Close() })
		return []net.Listener{l4, l6}
	}
	h.t.Fatal("no free port on both loopback addresses")
	return nil
}

func (h *host) needIPv6() {
	if len(h.outbound) < 2 {
		h.t.Skip("this host has no IPv6")
	}
}

// attach attaches; the sidecar is not there yet.
func (h *host) attach() *Handle {
	h.t.Helper()
	i, err := Attach(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { i.Close() })
	return i
}

// pinned is a map of what is attached.
func (h *host) pinned(name string) *ebpf.Map {
	h.t.Helper()
	m, err := bpf.OpenMap(filepath.Join(h.directory, "app", "maps"), name, false)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { m.Close() })
	return m
}

// serve makes this process the sidecar.
func (h *host) serve() *Handle {
	h.t.Helper()
	i := h.attach()
	if err := i.Serve(Sockets{Outbound: h.outbound, DNS: h.dns}); err != nil {
		h.t.Fatal(err)
	}
	for _, l := range append(h.outbound, h.dns...) {
		go answerAsked(i, l)
	}
	for _, p := range h.dnsUDP {
		ended := make(chan struct{})
		go func() { defer close(ended); answerDatagrams(i, p) }()
		h.t.Cleanup(func() { p.Close(); <-ended })
	}
	return i
}

// child is the test binary in a role; in the captured cgroup, unless outside.
func (h *host) child(role string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(h.t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childEnv+"="+role, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	if role != "sidecar" {
		dir, err := os.Open(h.cgroup)
		if err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup(func() { dir.Close() })
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	return cmd
}

// program runs one exchange in the captured cgroup.
func (h *host) program(role string, args ...string) seen {
	h.t.Helper()
	out, err := h.child(role, args...).Output()
	if err != nil {
		h.t.Fatalf("%s %v: %v", role, args, err)
	}
	var s seen
	if err := json.Unmarshal(out, &s); err != nil {
		h.t.Fatalf("%s %v: %q: %v", role, args, out, err)
	}
	return s
}

// start runs a child that lives on; end it by what is returned.
func (h *host) start(cmd *exec.Cmd) (out *bufio.Reader, stop func()) {
	h.t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	return h.startWith(cmd, in)
}

// startWith is start for a child whose input the test writes.
func (h *host) startWith(cmd *exec.Cmd, in io.Closer) (out *bufio.Reader, stop func()) {
	h.t.Helper()
	r, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		in.Close()
		_, _ = io.Copy(io.Discard, r)
		_ = cmd.Wait()
	}
	h.t.Cleanup(stop)
	return bufio.NewReader(r), stop
}

// read is all that the other side says.
func read(t *testing.T, c net.Conn) string {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// answerDatagrams repeats each to its sender, and says which server was asked.
func answerDatagrams(i *Handle, p net.PacketConn) {
	b := make([]byte, 512)
	at := p.LocalAddr().(*net.UDPAddr).AddrPort()
	for {
		n, from, err := p.(*net.UDPConn).ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		answer := "answer to " + string(b[:n])
		if server, ok := i.OriginalServer(at, from); ok {
			answer += " for " + server.String()
		}
		_, _ = p.WriteTo([]byte(answer), net.UDPAddrFromAddrPort(from))
	}
}

// addDevice makes a device that is up and leads nowhere.
func addDevice(t *testing.T, name string) {
	t.Helper()
	for _, args := range [][]string{
		{"link", "add", name, "type", "veth", "peer", "name", name + "-peer"},
		{"link", "set", name, "up"},
		{"link", "set", name + "-peer", "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			harness.Lacking(t, fmt.Sprintf("cannot add a device: %v: %s", err, out))
		}
	}
}

// addLoopbackAddress gives the loopback interface an IPv6 address.
func addLoopbackAddress(ip string) error {
	out, err := exec.Command("ip", "-6", "addr", "add", ip+"/128", "dev", "lo", "nodad").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
