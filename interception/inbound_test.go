package interception

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
	"github.com/isthmus-mesh/isthmus/interception/hooks"
)

// inboundHost has a program on a port whose connections go to the sidecar, and
// returns the sidecar's listener for them.
func inboundHost(t *testing.T) (h *host, program netip.AddrPort, inbound net.Listener) {
	h = newHost(t)
	l := says(t, "127.0.0.1:0", "program")
	program = l.Addr().(*net.TCPAddr).AddrPort()
	h.config.Inbound = []uint16{program.Port()}
	inbound, err := listenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inbound.Close() })
	return h, program, inbound
}

// caller connects from outside the cgroup, as the network would.
func caller(t *testing.T, to netip.AddrPort) (answer string, err error) {
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	return read(t, c), nil
}

func TestCallersOfTheProgramReachTheSidecarAndItsOwnDialsPass(t *testing.T) {
	h, program, inbound := inboundHost(t)
	i := h.attach()
	if err := i.Serve(Sockets{Inbound: []net.Listener{inbound}}); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := inbound.Accept()
			if err != nil {
				return
			}
			p, err := i.DialProgram(context.Background(), program.String(), netip.AddrPort{})
			if err != nil {
				t.Error(err)
				c.Close()
				continue
			}
			_, _ = c.Write([]byte("sidecar of " + c.LocalAddr().String() + ": " + read(t, p)))
			p.Close()
			c.Close()
		}
	}()
	for range 3 {
		got, err := caller(t, program)
		if want := "sidecar of " + program.String() + ": program"; err != nil || got != want {
			t.Errorf("the caller got %q, %v, want %q", got, err, want)
		}
	}
	// Through another address of the host too, to which the program does not listen.
	other := netip.AddrPortFrom(netip.MustParseAddr("127.66.0.8"), program.Port())
	if got, err := caller(t, other); err != nil || got != "sidecar of "+other.String()+": program" {
		t.Errorf("another address of the host: %q, %v", got, err)
	}
	if s, err := i.hooks.Stats(); err != nil || s.Steered != 4 || s.OwnDials != 4 || s.InboundRefused != 0 {
		t.Errorf("stats %+v, %v", s, err)
	}
	var key bpf.KernelPair
	var value uint8
	if entries := h.pinned(bpf.KernelMapOwnDials).Iterate(); entries.Next(&key, &value) {
		t.Errorf("%s may pass to %s for ever", key.Local.AddrPort(), key.Remote.AddrPort())
	}
}

func TestWithoutASidecarClosedRefusesCallersOfTheProgram(t *testing.T) {
	h, program, inbound := inboundHost(t)
	i := h.attach()
	if got, err := caller(t, program); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("the caller got %q, %v before the first sidecar", got, err)
	}
	if err := i.Serve(Sockets{Inbound: []net.Listener{inbound}}); err != nil {
		t.Fatal(err)
	}
	inbound.Close()
	if got, err := caller(t, program); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("the caller got %q, %v after the sidecar had gone", got, err)
	}
}

func TestWithoutASidecarOpenLetsCallersToTheProgram(t *testing.T) {
	h, program, _ := inboundHost(t)
	h.config.OnFailure = hooks.FailOpen
	i := h.attach()
	if got, err := caller(t, program); err != nil || got != "program" {
		t.Errorf("the caller got %q, %v", got, err)
	}
	if s, err := i.hooks.Stats(); err != nil || s.InboundPassed != 1 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

func TestPortsNoLongerInboundAreTheProgramsAgain(t *testing.T) {
	h, program, _ := inboundHost(t)
	h.attach()
	h.config.Inbound = nil
	h.attach()
	if got, err := caller(t, program); err != nil || got != "program" {
		t.Errorf("the caller got %q, %v", got, err)
	}
}

func TestOneDualStackListenerTakesInboundOfBothFamilies(t *testing.T) {
	h := newHost(t)
	h.needIPv6()
	inbound, err := listenTCP("[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inbound.Close()
	v4, v6 := says(t, "127.0.0.1:0", "program"), says(t, "[::1]:0", "program")
	h.config.Inbound = []uint16{portOf(v4), portOf(v6)}
	i := h.attach()
	if err := i.Serve(Sockets{Inbound: []net.Listener{inbound}}); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := inbound.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("sidecar"))
			c.Close()
		}
	}()
	for _, l := range []net.Listener{v4, v6} {
		to := l.Addr().(*net.TCPAddr).AddrPort()
		if got, err := caller(t, to); err != nil || got != "sidecar" {
			t.Errorf("the caller of %s got %q, %v", to, got, err)
		}
		p, err := i.DialProgram(t.Context(), to.String(), netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, p); got != "program" {
			t.Errorf("the sidecar's dial to %s got %q", to, got)
		}
		p.Close()
	}
}

func TestTheProgramSeesWhoCalled(t *testing.T) {
	h := newHost(t)
	i := h.attach()
	v4, v6 := netip.MustParseAddrPort("192.0.2.7:4711"), netip.MustParseAddrPort("[2001:db8::7]:4711")
	for _, c := range []struct {
		name, listen, dial string
		caller             netip.AddrPort
		want               string
	}{
		{"IPv4", "127.0.0.1:0", "127.0.0.1", v4, "accepted 192.0.2.7:4711, peer 192.0.2.7, <nil>"},
		{"IPv4 at a dual-stack program", "[::]:0", "127.0.0.1", v4, "accepted 192.0.2.7:4711, peer 192.0.2.7, <nil>"},
		{"IPv6", "[::1]:0", "::1", v6, "accepted [2001:db8::7]:4711, peer 2001:db8::7, <nil>"},
		{"IPv6 at a program that knows IPv4 only", "127.0.0.1:0", "127.0.0.1", v6, "accepted 127.0.0.1:"},
		{"nobody", "127.0.0.1:0", "127.0.0.1", netip.AddrPort{}, "accepted 127.0.0.1:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.Contains(c.listen, "[") {
				h.needIPv6()
			}
			cmd := h.child("serve", c.listen)
			out, stop := h.start(cmd)
			defer func() { _ = cmd.Process.Kill(); stop() }()
			_, port, err := net.SplitHostPort(firstLine(t, out))
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				conn, err := i.DialProgram(t.Context(), net.JoinHostPort(c.dial, port), c.caller)
				if err != nil {
					t.Fatal(err)
				}
				if got := read(t, conn); !strings.HasPrefix(got, c.want) {
					t.Errorf("the program says %q, want %q", got, c.want)
				}
				conn.Close()
			}
			var key bpf.KernelPair
			var value bpf.KernelEndpoint
			if entries := h.pinned(bpf.KernelMapCallers).Iterate(); entries.Next(&key, &value) {
				t.Errorf("%s is still said to call for %s", key.Local.AddrPort(), value.AddrPort())
			}
		})
	}
}

func TestAProgramReachesItselfPastTheSidecar(t *testing.T) {
	h := newHost(t)
	free := says(t, "127.0.0.1:0", "")
	program := free.Addr().String()
	h.config.Inbound = []uint16{portOf(free)}
	free.Close()
	i := h.attach()
	for range 3 {
		if got := h.program("self", program); got.Answer != "self" || got.Peer != program {
			t.Errorf("the program saw %+v", got)
		}
	}
	got := h.program("tcp", "4", program) // to nobody: what passes must not pass for ever
	if got.Err == "" {
		t.Errorf("the program saw %+v", got)
	}
	if s, err := i.hooks.Stats(); err != nil || s.OwnDials != 4 || s.InboundRefused != 0 {
		t.Errorf("stats %+v, %v", s, err)
	}
	var key bpf.KernelPair
	var value uint8
	if entries := h.pinned(bpf.KernelMapOwnDials).Iterate(); entries.Next(&key, &value) {
		t.Errorf("%s may pass to %s for ever", key.Local.AddrPort(), key.Remote.AddrPort())
	}
}

func TestAPortThatAnotherSidecarHasIsRefused(t *testing.T) {
	h, program, _ := inboundHost(t)
	h.attach()
	second := h.config
	second.Name = "second"
	_, err := Attach(second)
	if err == nil || !strings.Contains(err.Error(), "interception app") || !strings.Contains(err.Error(), program.String()[len("127.0.0.1:"):]) {
		t.Errorf("a second sidecar for the same port: %v", err)
	}
	if left, err := Attached(h.directory); err != nil || len(left) != 1 {
		t.Errorf("attached: %v, %v", left, err)
	}
	second.Inbound = nil
	if _, err := Attach(second); err != nil {
		t.Error(err)
	}
	if _, err := Detach(h.directory, "second"); err != nil {
		t.Error(err)
	}
}

// oneSourcePort leaves outgoing connections of this network namespace, which is the
// test's own, a single port.
func oneSourcePort(t *testing.T) (port uint16) {
	t.Helper()
	free := says(t, "127.0.0.1:0", "")
	port = portOf(free)
	free.Close()
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", fmt.Appendf(nil, "%d %d", port, port), 0); err != nil {
		t.Fatal(err)
	}
	return port
}

func TestAPortThatWaitsForTheEndOfAConnectionServesTheNext(t *testing.T) {
	ownNetwork(t)
	h := newHost(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
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
			_, _ = io.Copy(io.Discard, c) // the sidecar ends first: its port waits for a minute
			c.Close()
		}
	}()
	oneSourcePort(t)
	i := h.attach()
	for n := range 3 {
		var c net.Conn
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) { // the kernel wants a second
			if c, err = i.DialProgram(t.Context(), l.Addr().String(), netip.AddrPort{}); err == nil || time.Now().After(deadline) {
				break
			}
		}
		if err != nil {
			t.Fatalf("connection %d from the same port: %v", n, err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}
}

func TestAProgramOfAnotherHostIsNotDialled(t *testing.T) {
	i := newHost(t).attach()
	c, err := i.DialProgram(t.Context(), "192.0.2.99:80", netip.AddrPort{})
	if err == nil || !strings.Contains(err.Error(), "192.0.2.99 is no address of this host") {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestNobodyElseCanCallTheProgramFromTheSidecarsAddress(t *testing.T) {
	h, program, _ := inboundHost(t)
	i := h.attach()
	c, err := i.DialProgram(t.Context(), program.String(), netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cmd := h.child("bind", c.LocalAddr().String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "in use") {
		t.Errorf("another user's attempt at %s: %s, %v", c.LocalAddr(), out, err)
	}
}

func TestWhomAKilledSidecarCalledForIsForgotten(t *testing.T) {
	ownNetwork(t)
	h := newHost(t)
	cmd := h.child("serve", "127.0.0.1:0")
	out, stop := h.start(cmd)
	defer func() { _ = cmd.Process.Kill(); stop() }()
	program := netip.MustParseAddrPort(firstLine(t, out))
	source := netip.AddrPortFrom(program.Addr(), oneSourcePort(t))
	i := h.attach()
	dials, callers := h.pinned(bpf.KernelMapOwnDials), h.pinned(bpf.KernelMapCallers)
	pair := bpf.KernelPair{Local: bpf.EndpointOf(source), Remote: bpf.EndpointOf(program)}
	stranger := netip.MustParseAddrPort("192.0.2.7:4711")
	if err := errors.Join(callers.Put(pair, bpf.EndpointOf(stranger)), dials.Put(pair, bpf.DialSidecar), i.claim(h.config)); err != nil {
		t.Fatal(err)
	}
	var value uint8
	if dials.Lookup(pair, &value) == nil {
		t.Errorf("%s may still pass to %s", source, program)
	}
	c, err := i.DialProgram(t.Context(), program.String(), netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, c); strings.Contains(got, stranger.Addr().String()) {
		t.Errorf("the program says %q", got)
	}
}
