package interception

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
	"github.com/isthmus-mesh/isthmus/interception/hooks"
)

// sidecarProcess starts a sidecar of its own process, as a user.
func (h *host) sidecarProcess(uid uint32) *exec.Cmd {
	cmd := h.child("sidecar", h.directory, "app", fmt.Sprint(h.config.OutboundPort))
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	return cmd
}

// counted listens on an address that also works without interception, and
// counts who comes directly.
func counted(t testing.TB) (addr string, came *atomic.Int64) {
	l, err := net.Listen("tcp4", "127.66.0.7:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	came = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			_, _ = c.Write([]byte("direct"))
			c.Close()
		}
	}()
	return l.Addr().String(), came
}

// killed runs a program that connects all the time while the sidecar is killed
// and comes back. It returns what else became of connections before they were
// as they should be without a sidecar, and again before they were captured; and
// how many went out directly.
func killed(t *testing.T, policy hooks.OnFailure, without string) (down, up []string, direct int64) {
	h := newHost(t)
	h.config.OnFailure = policy
	for _, l := range h.outbound {
		l.Close() // only the process serves
	}
	h.attach()
	addr, came := counted(t)
	first := h.sidecarProcess(0)
	out, stop := h.start(first)
	await(t, out, "serving")

	load, stopLoad := h.start(h.child("load", addr))
	if before := await(t, load, "asked "+addr); before != nil {
		t.Errorf("with a sidecar the program saw %q", before)
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	stop()
	down = await(t, load, without)
	out, _ = h.start(h.sidecarProcess(0))
	await(t, out, "serving")
	up = await(t, load, "asked "+addr)
	stopLoad()
	return down, up, came.Load()
}

func TestAfterKillMinus9ClosedRefusesAndNothingGoesDirectly(t *testing.T) {
	down, up, direct := killed(t, hooks.FailClosed, "refused")
	if direct != 0 || down != nil || up != nil {
		t.Errorf("%d connections went out directly; the program saw %q and %q", direct, down, up)
	}
}

func TestAfterKillMinus9OpenLetsTrafficByUntilTheSidecarIsBack(t *testing.T) {
	// A connection under way at the kill may be refused.
	_, up, direct := killed(t, hooks.FailOpen, "direct")
	if direct == 0 || up != nil {
		t.Errorf("%d connections went out directly; then the program saw %q", direct, up)
	}
}

func TestClosedRefusesWithECONNREFUSEDBeforeTheFirstSidecar(t *testing.T) {
	h := newHost(t)
	i := h.attach()
	want := "connection refused"
	if features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnSetRetval) != nil {
		want = "operation not permitted"
	}
	for _, role := range [][]string{
		{"tcp", "4", "240.66.0.7:80"},
		{"tcp", "6", "240.66.0.7:80"},
		{"udp", "4", "connected", "192.0.2.53:53"},
		{"udp", "4", "unconnected", "192.0.2.53:53"},
	} {
		if got := h.program(role[0], role[1:]...); got.Err != want {
			t.Errorf("%v: %+v, want %s", role, got, want)
		}
	}
	if s, err := i.hooks.Stats(); err != nil || s.Refused != 4 {
		t.Errorf("stats %+v, %v", s, err)
	}
}

func TestASidecarWithoutPrivilegeServes(t *testing.T) {
	const nobody = 65534
	h := newHost(t)
	if version, err := features.LinuxVersionCode(); err != nil || version < 6<<16 {
		t.Skip("before Linux 6.0 opening pins takes CAP_BPF")
	}
	// The test binary and the pins must be in reach of the user.
	for dir := filepath.Dir(h.directory); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range h.outbound {
		l.Close()
	}
	h.config.UID, h.config.GID = nobody, nobody
	h.attach()
	var pins unix.Stat_t
	if err := unix.Stat(h.directory+"/app", &pins); err != nil || pins.Uid != 0 || pins.Gid != nobody || pins.Mode&0o777 != 0o750 {
		t.Errorf("anybody can lock the pins: user %d, group %d, mode %o, %v", pins.Uid, pins.Gid, pins.Mode&0o777, err)
	}
	out, stop := h.start(h.sidecarProcess(nobody))
	await(t, out, "serving")
	if got := h.program("tcp", "4", "240.66.0.7:80"); got.Answer != "asked 240.66.0.7:80" {
		t.Errorf("the program saw %+v", got)
	}
	stop()
	h.config.UID, h.config.GID = 0, 0
	h.attach()
	cmd := h.sidecarProcess(nobody)
	cmd.Stderr = nil
	if _, err := cmd.Output(); err == nil || !strings.Contains(string(err.(*exec.ExitError).Stderr), "user 65534") {
		t.Errorf("pins of root opened by another user: %v", err)
	}
}

func TestEstablishedConnectionsOutliveAnUpgradeAndARemoval(t *testing.T) {
	h := newHost(t)
	i := h.attach()
	if err := i.Serve(Sockets{Outbound: h.outbound}); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := h.outbound[0].Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	const to = "240.66.0.7:80"
	cmd := h.child("hold", to)
	say, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := h.startWith(cmd, say)
	await(t, out, to)
	for _, step := range []struct {
		name string
		do   func() error
		peer string
	}{
		{"nothing", func() error { return nil }, to},
		{"upgrade", func() error { h.attach(); return nil }, to},
		// Without the hook the kernel shows where the connection really goes.
		{"removal", func() error { _, err := Detach(h.directory, "app"); return err }, h.outbound[0].Addr().String()},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(say, step.name)
		if got := firstLine(t, out); got != step.name {
			t.Errorf("after %s the program heard %q", step.name, got)
		}
		if got := firstLine(t, out); got != step.peer {
			t.Errorf("after %s the program's peer is %s, want %s", step.name, got, step.peer)
		}
	}
}

func TestAttachAgainCapturesOn(t *testing.T) {
	h := newHost(t)
	h.serve()
	before := h.program("tcp", "4", "240.66.0.7:80")
	h.config.Captured = []netip.Prefix{netip.MustParsePrefix("240.66.0.7/32"), netip.MustParsePrefix("10.96.0.0/12")}
	again := h.attach()
	// The first handle's listeners are still in place: same maps, new programs.
	if got := h.program("tcp", "4", "240.66.0.7:80"); got != before {
		t.Errorf("after attaching again the program saw %+v, want %+v", got, before)
	}
	if got := h.program("tcp", "4", "10.100.0.1:80"); got.Answer != "asked 10.100.0.1:80" {
		t.Errorf("a prefix that was added: %+v", got)
	}
	l := says(t, "127.66.0.7:0", "direct")
	if got := h.program("tcp", "4", l.Addr().String()); got.Answer != "direct" {
		t.Errorf("a prefix that was removed: %+v", got)
	}
	if s, err := again.hooks.Stats(); err != nil || s.Captured != 3 {
		t.Errorf("counters of the new handle %+v, %v, want those of the old", s, err)
	}
}

func TestACgroupMadeAnewIsAttachedTo(t *testing.T) {
	h := newHost(t)
	h.serve()
	if err := os.Remove(h.cgroup); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(h.cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	l := says(t, "127.66.0.7:0", "direct")
	if got := h.program("tcp", "4", l.Addr().String()); got.Answer != "direct" {
		t.Errorf("the new cgroup has hooks already: %+v", got)
	}
	h.attach()
	if got := h.program("tcp", "4", "240.66.0.7:80"); got.Answer != "asked 240.66.0.7:80" {
		t.Errorf("the program saw %+v", got)
	}
}

func TestDetachLetsEverythingGo(t *testing.T) {
	h := newHost(t)
	h.serve()
	if removed, err := Detach(h.directory, "app"); err != nil || !removed {
		t.Fatalf("removed %v, %v", removed, err)
	}
	l := says(t, "127.66.0.7:0", "direct")
	if got := h.program("tcp", "4", l.Addr().String()); got.Answer != "direct" {
		t.Errorf("the program saw %+v", got)
	}
	if left, err := Attached(h.directory); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := Open(h.directory, "app"); !errors.Is(err, bpf.ErrNotAttached) {
		t.Errorf("open after detach: %v", err)
	}
	if removed, err := Detach(h.directory, "app"); err != nil || removed {
		t.Errorf("detach again: removed %v, %v", removed, err)
	}
}

func TestAttachFromManyProcessesAtOnceEndsInOneSetOfHooks(t *testing.T) {
	h := newHost(t)
	var all errgroup.Group
	for range 4 {
		all.Go(func() error {
			i, err := Attach(h.config)
			if err != nil {
				return err
			}
			return i.Close()
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	i := h.serve()
	h.program("tcp", "4", "240.66.0.7:80")
	if s, err := i.hooks.Stats(); err != nil || s.Captured != 1 {
		t.Errorf("stats %+v, %v: a hook runs twice", s, err)
	}
}

func TestTheHooksOfADeletedCgroupAreRemoved(t *testing.T) {
	h := newHost(t)
	h.serve()
	if err := os.Remove(h.cgroup); err != nil {
		t.Fatal(err)
	}
	if _, err := Detach(h.directory, "app"); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(h.cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestTwoSidecarsOnOneHostDoNotMeet(t *testing.T) {
	one, two := newHost(t), newHost(t)
	one.serve()
	a := one.program("tcp", "4", "240.66.0.7:80")
	if l := says(t, "127.66.0.7:0", "direct"); two.program("tcp", "4", l.Addr().String()).Answer != "direct" {
		t.Error("a program beside the captured one was captured")
	}
	i := two.serve()
	b := two.program("tcp", "4", "240.66.0.7:80")
	if a != b {
		t.Errorf("%+v and %+v", a, b)
	}
	if s, err := i.hooks.Stats(); err != nil || s.Captured != 1 {
		t.Errorf("the second sidecar's stats: %+v, %v", s, err)
	}
}

func TestAnotherProgramsPinIsNamedAndLeft(t *testing.T) {
	h := newHost(t)
	h.attach()
	d := filepath.Join(h.directory, "app")
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, path := range []string{filepath.Join(d, "links", "connect4"), filepath.Join(d, "maps", bpf.KernelMapCaptured)} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := other.Pin(path); err != nil {
			t.Fatal(err)
		}
		_, err := Attach(h.config)
		if err == nil || !strings.Contains(err.Error(), d) || !strings.Contains(err.Error(), "remove") {
			t.Errorf("attach over another program's pin: %v", err)
		}
		if err := other.Unpin(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestASidecarInTheCapturedCgroupIsRefused(t *testing.T) {
	h := newHost(t)
	h.attach()
	cmd := h.sidecarProcess(0)
	cmd.SysProcAttr = h.child("tcp").SysProcAttr
	cmd.Stderr = nil
	for _, l := range h.outbound {
		l.Close()
	}
	_, err := cmd.Output()
	if err == nil || !strings.Contains(string(err.(*exec.ExitError).Stderr), "run it in another") {
		t.Errorf("got %v", err)
	}
}

func TestAFailedFirstAttachLeavesNothing(t *testing.T) {
	h := newHost(t)
	h.config.Cgroup = "/sys/fs/cgroup/absent"
	if _, err := Attach(h.config); err == nil || !strings.Contains(err.Error(), "create it") {
		t.Errorf("attach to a cgroup that is absent: %v", err)
	}
	h.config.Cgroup = "/tmp"
	if _, err := Attach(h.config); err == nil || !strings.Contains(err.Error(), "not a cgroup v2") {
		t.Errorf("attach to something else: %v", err)
	}
	if left, err := Attached(h.directory); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestAnotherPortOrKindOfListenerIsRefused(t *testing.T) {
	h := newHost(t)
	i := h.attach()
	if err := i.Serve(Sockets{Outbound: h.dns}); err == nil || !strings.Contains(err.Error(), "attach with this port") {
		t.Errorf("another port: %v", err)
	}
	port := h.config.OutboundPort
	h.outbound[0].Close()
	multipath, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer multipath.Close()
	if err := i.Serve(Sockets{Outbound: []net.Listener{multipath}}); err != nil && !strings.Contains(err.Error(), "net.ListenConfig") {
		t.Errorf("a multipath listener: %v", err)
	}
}

func TestWhatASidecarUsesIsNotRemovedUnderIt(t *testing.T) {
	h := newHost(t)
	i := h.serve()
	if err := i.hooks.Claim(); err != nil {
		t.Fatal(err)
	}
	other, err := Open(h.directory, "app")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.hooks.Claim(); err == nil || !strings.Contains(err.Error(), "another sidecar's") {
		t.Errorf("a second claim: %v", err)
	}
	if _, err := Detach(h.directory, "app"); err == nil || !strings.Contains(err.Error(), "stop its sidecar") {
		t.Errorf("detach under a sidecar: %v", err)
	}
	if got := h.program("tcp", "4", "240.66.0.7:80"); got.Answer != "asked 240.66.0.7:80" {
		t.Errorf("the program saw %+v", got)
	}
	if _, err := Attach(h.config); err != nil {
		t.Errorf("attach again under a sidecar: %v", err)
	}
	if err := errors.Join(i.Close(), other.Close()); err != nil {
		t.Error(err)
	}
	if _, err := Detach(h.directory, "app"); err != nil {
		t.Error(err)
	}
}

func TestASidecarNeverRunsWithPinsThatAreRemoved(t *testing.T) {
	h := newHost(t)
	for range 100 {
		i, err := Attach(h.config)
		if err != nil {
			t.Fatal(err)
		}
		var both errgroup.Group
		var claimed, removed error
		both.Go(func() error { claimed = i.hooks.Claim(); return nil })
		both.Go(func() error { _, removed = Detach(h.directory, "app"); return nil })
		_ = both.Wait()
		if claimed == nil && removed == nil {
			t.Error("claimed, and removed")
		}
		i.Close()
	}
}

func TestAnotherSidecarDoesNotTakeTheHooksOfTheFirst(t *testing.T) {
	h, other := newHost(t), newHost(t)
	i := h.serve()
	if err := i.hooks.Claim(); err != nil {
		t.Fatal(err)
	}
	second := h.config
	second.Cgroup = other.cgroup
	if _, err := Attach(second); err == nil || !strings.Contains(err.Error(), "interception.name of its own") {
		t.Errorf("attach under the same name: %v", err)
	}
	if got := h.program("tcp", "4", "240.66.0.7:80"); got.Answer != "asked 240.66.0.7:80" {
		t.Errorf("the first one's program saw %+v", got)
	}
}

func TestASidecarIsToldThatSomethingElseIsAttached(t *testing.T) {
	h := newHost(t)
	h.config.Inbound = []uint16{8080}
	i := h.attach()
	if err := i.hooks.Differs(h.config); err != nil {
		t.Error(err)
	}
	wanted := h.config
	wanted.Inbound, wanted.OnFailure, wanted.DNSPort = nil, hooks.FailOpen, 1
	wanted.Cgroup = newHost(t).cgroup
	err := i.hooks.Differs(wanted)
	for _, want := range []string{"cgroup is another", "onFailure is closed and not open", "DNS port", "steered port is [8080] and not []", "attach again"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %s", err, want)
		}
	}
}
