package interception

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/interception/hooks"
	"github.com/isthmus-mesh/isthmus/interception/nft"
)

// The numbers of a pod.
const (
	podUser     = 15000
	podOutbound = 15001
	podDNS      = 15053
	podInbound  = 15006
)

// pod is a host that is a pod: with a network namespace of its own, in which this test is the
// program that serves, and a cable to the node, where its callers are.
type pod struct {
	*host
	node    string // network namespace
	traffic PodTable

	nodePasses bool
}

var (
	podV4, podV6   = netip.MustParseAddr("10.99.0.2"), netip.MustParseAddr("fd00:99::2")
	nodeV4, nodeV6 = netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("fd00:99::1")
)

func newPod(t *testing.T) *pod {
	needRoot(t)
	harness.Tool(t, "ip")
	ownNetwork(t)
	p := &pod{host: newHost(t), node: fmt.Sprintf("isthmus-pod-%d", os.Getpid()), traffic: PodTable{
		UID: podUser, Captured: []netip.Prefix{mesh4, mesh6}, OutboundPort: podOutbound, DNSPort: podDNS, InboundPort: podInbound,
		Excluded: []uint16{9090},
	}}
	p.needIPv6()
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	ip("netns add " + p.node)
	t.Cleanup(func() { ip("netns delete " + p.node) })
	ip("link add eth0 type veth peer name pod netns " + p.node)
	ip("link set eth0 up")
	ip("-n " + p.node + " link set pod up")
	for _, a := range []struct{ here, there netip.Addr }{{podV4, nodeV4}, {podV6, nodeV6}} {
		bits, more := "/24", ""
		if a.here.Is6() {
			bits, more = "/64", " nodad"
		}
		ip("addr add " + a.here.String() + bits + " dev eth0" + more)
		ip("-n " + p.node + " addr add " + a.there.String() + bits + " dev pod" + more)
		ip("route add default via " + a.there.String() + " metric 1")
	}
	for _, port := range []int{53, 8080, 9090} {
		l, err := listenTCP(fmt.Sprintf("[::]:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "program")
				c.Close()
			}
		}()
	}
	return p
}

// bring brings the pod's traffic to its sidecar, or does it anew.
func (p *pod) bring(way Way, onFailure OnFailure, nodes ...netip.Addr) {
	p.t.Helper()
	if way == NFTables {
		traffic := p.traffic
		traffic.Nodes = nodes
		if err := nft.RedirectPod(traffic); err != nil {
			p.t.Fatal(err)
		}
		return
	}
	if err := SetNodeAddresses(p.directory, nodes); err != nil {
		p.t.Fatal(err)
	}
	network, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		p.t.Fatal(err)
	}
	defer network.Close()
	err = AttachPod(PodHooks{
		Name: "app", Directory: p.directory, Cgroup: p.cgroup, Network: network, UID: podUser, Captured: p.traffic.Captured,
		OutboundPort: podOutbound, DNSPort: podDNS, InboundPort: podInbound, Excluded: p.traffic.Excluded, OnFailure: onFailure, Node: p.nodePasses,
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// podSidecar is a child that listens as the sidecar of a pod does.
type podSidecar struct {
	t    *testing.T
	in   io.Writer
	out  *bufio.Reader
	stop func()
}

func (p *pod) sidecar() *podSidecar {
	p.t.Helper()
	cmd := p.child("podsidecar")
	in, err := cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, stop := p.startWith(cmd, in)
	if line, err := out.ReadString('\n'); err != nil || line != "listening\n" {
		p.t.Fatalf("the sidecar says %q, %v", line, err)
	}
	return &podSidecar{p.t.(*testing.T), in, out, stop}
}

// dial has the sidecar dial, or say what is captured ("capture ADDRESS", "release ADDRESS").
func (s *podSidecar) dial(to string) seen {
	s.t.Helper()
	fmt.Fprintln(s.in, to)
	line, err := s.out.ReadString('\n')
	var got seen
	if err == nil {
		err = json.Unmarshal([]byte(line), &got)
	}
	if err != nil {
		s.t.Fatalf("the sidecar says %q, %v", line, err)
	}
	return got
}

// childPodSidecar listens and says to each caller what that asked for; it dials what its
// input says, or says itself what is captured.
func childPodSidecar([]string) error {
	if err := errors.Join(syscall.Setgid(podUser), syscall.Setuid(podUser)); err != nil {
		return err
	}
	for _, address := range []string{
		fmt.Sprintf("127.0.0.1:%d", podOutbound), fmt.Sprintf("[::1]:%d", podOutbound), fmt.Sprintf("[::]:%d", podInbound),
		fmt.Sprintf("127.0.0.1:%d", podDNS), fmt.Sprintf("[::1]:%d", podDNS),
	} {
		l, err := listenTCP(address)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				said := "called " + c.LocalAddr().String()
				if to, ok := nft.OriginalDestination(c); ok {
					said = "asked " + to.String()
				}
				_, _ = io.WriteString(c, said)
				c.Close()
			}
		}()
		if !strings.HasSuffix(address, fmt.Sprint(podDNS)) {
			continue
		}
		u, err := net.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		go func() {
			b := make([]byte, 512)
			for {
				_, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = u.WriteTo([]byte("the sidecar"), from)
			}
		}()
	}
	fmt.Println("listening")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if says, to, ok := strings.Cut(in.Text(), " "); ok {
			say := map[string]func(PodTable, []netip.AddrPort) error{"capture": CaptureAlso, "release": ReleaseAlso}[says]
			err := say(PodTable{OutboundPort: podOutbound, InboundPort: podInbound}, []netip.AddrPort{netip.MustParseAddrPort(to)})
			_ = report(seen{}, err)
			continue
		}
		d := net.Dialer{Timeout: 20 * time.Second}
		d.SetMultipathTCP(false)
		c, err := d.Dial("tcp", in.Text())
		if err != nil {
			_ = report(seen{}, err)
			continue
		}
		b, err := io.ReadAll(c)
		c.Close()
		_ = report(seen{Answer: string(b)}, err)
	}
	return nil
}

// call connects from the node.
func (p *pod) call(ip netip.Addr, port uint16) seen {
	p.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	domain := "4"
	if ip.Is6() {
		domain = "6"
	}
	cmd := exec.CommandContext(p.t.Context(), "ip", "netns", "exec", p.node, exe, domain, netip.AddrPortFrom(ip, port).String())
	cmd.Env = append(os.Environ(), childEnv+"=tcp", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var s seen
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	if err != nil {
		p.t.Fatalf("call %v: %q: %v", ip, out, err)
	}
	return s
}

// ways runs a test for both.
func ways(t *testing.T, test func(*testing.T, Way)) {
	t.Run("eBPF", func(t *testing.T) { test(t, EBPF) })
	t.Run("nftables", func(t *testing.T) { test(t, NFTables) })
}

func TestWhatProgramsOfAPodSendComesToTheirSidecarWhichSendsItsOwn(t *testing.T) {
	ways(t, func(t *testing.T, way Way) {
		p := newPod(t)
		p.bring(way, hooks.FailClosed)
		s := p.sidecar()
		for _, c := range []struct{ domain, to string }{{"4", "240.66.0.7:80"}, {"6", "[fd69:7374:6d75::7]:80"}, {"4", "10.99.0.2:53"}, {"6", "[fd00:99::2]:53"}} {
			if got, want := p.program("tcp", c.domain, c.to), (seen{Peer: c.to, Answer: "asked " + c.to}); got != want {
				t.Errorf("the program saw %+v, want %+v", got, want)
			}
		}
		for _, c := range []struct{ domain, to string }{{"4", "10.99.0.1:53"}, {"6", "[fd00:99::1]:53"}} {
			for _, how := range []string{"connected", "unconnected"} {
				if got, want := p.program("udp", c.domain, how, c.to), (seen{Peer: c.to, Answer: "the sidecar"}); got != want {
					t.Errorf("DNS, %s: the program saw %+v, want %+v", how, got, want)
				}
			}
		}
		if got := p.program("tcp", "4", "10.99.0.2:8080"); got.Answer != "program" {
			t.Errorf("an address that is not captured: %+v", got)
		}
		if got := p.program("udp", "4", "unconnected", "240.66.0.7:80"); got.Err == "" {
			t.Errorf("UDP to the mesh: %+v", got)
		}
		for _, to := range []string{"10.99.0.2:53", "[fd00:99::2]:53", "10.99.0.2:8080"} {
			if got := s.dial(to); got.Answer != "program" {
				t.Errorf("the sidecar's own connection to %s: %+v", to, got)
			}
		}
		for _, to := range []string{"240.66.0.0:15001", "[fd69:7374:6d75::]:15001"} {
			if got := s.dial(to); got.Answer != "asked "+to {
				t.Errorf("the sidecar's test of %s: %+v", to, got)
			}
		}
	})
}

func TestCallersOfAPodComeToItsSidecarButForTheNodeAndThePodItself(t *testing.T) {
	ways(t, func(t *testing.T, way Way) {
		p := newPod(t)
		p.bring(way, hooks.FailClosed)
		p.sidecar()
		for _, a := range []netip.Addr{podV4, podV6} {
			to := netip.AddrPortFrom(a, 8080).String()
			want := "called " + to
			if way == NFTables {
				want = "asked " + to
			}
			if got := p.call(a, 8080); got.Answer != want {
				t.Errorf("a caller of %s: %+v, want %s", to, got, want)
			}
			if got := p.call(a, 9090); got.Answer != "program" {
				t.Errorf("a caller of a port that passes: %+v", got)
			}
		}
		for _, to := range []string{"10.99.0.2:8080", "127.0.0.1:8080", "[fd00:99::2]:8080", "[::1]:8080"} {
			if got := p.program("tcp", map[bool]string{true: "6", false: "4"}[to[0] == '['], to); got.Answer != "program" {
				t.Errorf("the pod itself at %s: %+v", to, got)
			}
		}
		for _, passes := range []bool{false, true} {
			p.nodePasses = passes
			if way == EBPF || passes { // the table has no addresses unless they pass
				p.bring(way, hooks.FailClosed, nodeV4, nodeV6)
			}
			for _, a := range []netip.Addr{podV4, podV6} {
				if got := p.call(a, 8080); (got.Answer == "program") != passes {
					t.Errorf("the node passes is %v: %+v", passes, got)
				}
			}
		}
	})
}

func TestWithoutASidecarNothingPassesAndOneThatComesBackIsFound(t *testing.T) {
	ways(t, func(t *testing.T, way Way) {
		p := newPod(t)
		p.bring(way, hooks.FailClosed)
		refused := func(when string) {
			t.Helper()
			for what, got := range map[string]seen{
				"to the mesh": p.program("tcp", "4", "240.66.0.7:80"), "DNS": p.program("tcp", "6", "[fd00:99::2]:53"),
				"a caller": p.call(podV4, 8080), "a caller by IPv6": p.call(podV6, 8080),
			} {
				if !strings.Contains(got.Err, "refused") {
					t.Errorf("%s, %s: %+v", when, what, got)
				}
			}
		}
		refused("before")
		s := p.sidecar()
		if got := p.program("tcp", "4", "240.66.0.7:80"); got.Answer != "asked 240.66.0.7:80" {
			t.Errorf("%+v", got)
		}
		s.stop()
		refused("after its end")
		p.sidecar()
		p.bring(way, hooks.FailClosed)
		if got := p.program("tcp", "4", "240.66.0.7:80"); got.Answer != "asked 240.66.0.7:80" {
			t.Errorf("with another one: %+v", got)
		}
		if got := p.call(podV4, 8080); !strings.HasSuffix(got.Answer, " 10.99.0.2:8080") {
			t.Errorf("a caller, with another one: %+v", got)
		}
	})
}

func TestTheHooksOfAPodFindASidecarThatListensAlready(t *testing.T) {
	p := newPod(t)
	s := p.sidecar()
	p.bring(EBPF, hooks.FailClosed)
	if got := s.dial("240.66.0.0:15001"); got.Answer != "asked 240.66.0.0:15001" {
		t.Errorf("the sidecar's test: %+v", got)
	}
	for _, a := range []netip.Addr{podV4, podV6} {
		if got, want := p.call(a, 8080), "called "+netip.AddrPortFrom(a, 8080).String(); got.Answer != want {
			t.Errorf("a caller: %+v, want %s", got, want)
		}
	}
}

func TestAnOpenPodLetsTrafficByWhileItHasNoSidecar(t *testing.T) {
	p := newPod(t)
	p.traffic.Captured = append(p.traffic.Captured, direct)
	p.bring(EBPF, hooks.FailOpen)
	l, err := listenTCP("127.66.0.7:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "direct")
			c.Close()
		}
	}()
	if got := p.program("tcp", "4", "127.66.0.7:80"); got.Answer != "direct" {
		t.Errorf("to the mesh: %+v", got)
	}
	if got := p.call(podV4, 8080); got.Answer != "program" {
		t.Errorf("a caller: %+v", got)
	}
	p.sidecar()
	if got := p.program("tcp", "4", "127.66.0.7:80"); got.Answer != "asked 127.66.0.7:80" {
		t.Errorf("to the mesh, with a sidecar: %+v", got)
	}
	if got := p.call(podV4, 8080); got.Answer != "called 10.99.0.2:8080" {
		t.Errorf("a caller, with a sidecar: %+v", got)
	}
}

func TestAProgramThatListensOnTheSidecarsPortGetsNothing(t *testing.T) {
	p := newPod(t)
	p.bring(EBPF, hooks.FailClosed)
	out, stop := p.start(p.child("podthief"))
	defer stop()
	if line, err := out.ReadString('\n'); err != nil || line != "listening\n" {
		t.Fatalf("the program says %q, %v", line, err)
	}
	if got := p.call(podV4, 8080); !strings.Contains(got.Err, "refused") {
		t.Errorf("a caller: %+v", got)
	}
	if got := p.program("tcp", "4", "240.66.0.7:80"); !strings.Contains(got.Err, "refused") {
		t.Errorf("another program: %+v", got)
	}
}

// childPodThief listens where a sidecar would, as another user.
func childPodThief([]string) error {
	for _, address := range []string{fmt.Sprintf("127.0.0.1:%d", podOutbound), fmt.Sprintf("[::]:%d", podInbound)} {
		if _, err := listenTCP(address); err != nil {
			return err
		}
	}
	fmt.Println("listening")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

func TestWithTheLastPodNothingIsLeftOfItsNode(t *testing.T) {
	p := newPod(t)
	p.bring(EBPF, hooks.FailClosed)
	shared := filepath.Join(p.directory, "node-addresses")
	if err := RemoveNodeAddresses(p.directory); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(shared); err != nil {
		t.Errorf("a pod has hooks, and what it shares with others is gone: %v", err)
	}
	if err := DetachPod(p.directory, "app"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // nothing is there the second time
		if err := RemoveNodeAddresses(p.directory); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(p.directory)
	left = slices.DeleteFunc(left, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".debug") }) // the kernel's
	if err != nil && !errors.Is(err, fs.ErrNotExist) || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
