package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/process"
	"github.com/isthmus-mesh/isthmus/sidecar/dns"
)

// A namespace is named prefix-PID-HOST, an interception interceptionPrefix-PID-NAME
// and the directory of all files prefix-PID-world, PID being the test's: so that two
// runs do not meet, and what a killed one left behind is known.
const (
	prefix             = "isthmus"
	interceptionPrefix = "netns"
)

// network is a bridge in the switch's namespace.
type network struct {
	name   string
	number int // 10.NUMBER.0.0/24 and fd00:NUMBER::/64
}

var (
	east  = network{"east", 1}
	west  = network{"west", 2}
	north = network{"north", 3}
	wan   = network{"wan", 9}
)

func (n network) v4(host int) string { return fmt.Sprintf("10.%d.0.%d", n.number, host) }
func (n network) v6(host int) string { return fmt.Sprintf("fd00:%d::%d", n.number, host) }

// outside is the number of the host that east's default route leads to.
const outside = 254

func namespace(host string) string { return fmt.Sprintf("%s-%d-%s", prefix, os.Getpid(), host) }

func namespaceFile(host string) string { return "/run/netns/" + namespace(host) }

// theSwitch is the namespace that every cable ends in.
const theSwitch = "switch"

// host is a network namespace and what runs there.
type host struct {
	w         *world
	name      string
	cluster   network
	number    int
	processes []*process.Process
}

// address is the host's in its cluster.
func (h *host) address() string { return h.cluster.v4(h.number) }

// plugSwitch makes the switch.
func plugSwitch() error {
	if err := ip("", "netns add "+namespace(theSwitch)); err != nil {
		return err
	}
	var lines []string
	for _, n := range []network{east, west, north, wan} {
		lines = append(lines, "link add "+n.name+" type bridge mcast_snooping 0", "link set "+n.name+" up")
	}
	return ip(namespace(theSwitch), lines...)
}

// host makes a host with a cable into its cluster's network.
func (w *world) host(name string, cluster network, number int) (*host, error) {
	h := &host{w: w, name: name, cluster: cluster, number: number}
	if err := ip("", "netns add "+namespace(name)); err != nil {
		return nil, err
	}
	if err := h.plug("eth0", name, cluster, number); err != nil {
		return nil, err
	}
	if cluster != east {
		return h, nil
	}
	if number != outside {
		return h, ip(namespace(name), "route add default via "+east.v4(outside), "route add ::/0 via "+east.v6(outside))
	}
	for _, p := range dns.Prefixes() {
		if err := ip(namespace(name), fmt.Sprintf("route add local %s dev lo", p)); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// resident makes a host that stays.
func (w *world) resident(name string, cluster network, number int) (*host, error) {
	h, err := w.host(name, cluster, number)
	if err == nil {
		w.hosts = append(w.hosts, h)
	}
	return h, err
}

// guest makes a host in east for one test.
func (w *world) guest(t *testing.T, name string, number int) *host {
	t.Helper()
	h, err := w.host(name, east, number)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.end(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(h.logs())
		}
		err := errors.Join(depopulate(namespace(name)), ip(namespace(theSwitch), "link delete "+name), ip("", "netns delete "+namespace(name)))
		if err != nil {
			t.Error(err)
		}
	})
	return h
}

// plug adds a cable: an interface of the host, and cable on the switch's side.
func (h *host) plug(device, cable string, n network, number int) error {
	err := ip(namespace(h.name),
		"link set lo up",
		fmt.Sprintf("link add %s type veth peer name %s netns %s", device, cable, namespace(theSwitch)),
		fmt.Sprintf("addr add %s/24 dev %s", n.v4(number), device),
		fmt.Sprintf("addr add %s/64 dev %s nodad", n.v6(number), device),
		fmt.Sprintf("link set %s up", device))
	if err != nil {
		return err
	}
	return ip(namespace(theSwitch), fmt.Sprintf("link set %s master %s up", cable, n.name))
}

// command runs argv in the host's network. Of the rest it sees what we see: `ip
// netns exec` would hide cgroup v2 and the bpffs.
func (h *host) command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + namespaceFile(h.name), "--"}, argv...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // for what is this test binary
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = time.Second
	return cmd
}

// within runs f in the network namespace of a host. The thread goes back afterwards
// and lives on: the death of a thread is what ends the processes that it started.
func within(host string, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	away, err := os.Open(namespaceFile(host))
	if err != nil {
		return err
	}
	defer away.Close()
	if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = f()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		panic(err) // nothing on this thread would be where it says
	}
	return err
}

// ip runs lines of ip(8) in a namespace; empty is ours.
func ip(namespace string, lines ...string) error {
	var argv []string
	if namespace != "" {
		argv = append(argv, "-n", namespace)
	}
	cmd := exec.Command("ip", append(argv, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip in %s: %w: %s\n%s", namespace, err, strings.TrimSpace(string(out)), strings.Join(lines, "\n"))
	}
	return nil
}

// sweep removes the hosts, interceptions and files of the processes that doomed
// names, with all that runs there.
func sweep(doomed func(pid int) bool) error {
	namespaces, err := filepath.Glob("/run/netns/" + prefix + "-*-*")
	if err != nil {
		return err
	}
	for _, file := range namespaces {
		name := filepath.Base(file)
		if !doomed(owner(name)) {
			continue
		}
		if err := depopulate(name); err != nil {
			return err
		}
		if err := ip("", "netns delete "+name); err != nil {
			return err
		}
	}
	root, err := interception.CgroupRoot()
	if err != nil {
		return err
	}
	cgroups, err := filepath.Glob(filepath.Join(root, "isthmus", interceptionPrefix+"-*-*"))
	if err != nil {
		return err
	}
	for _, dir := range cgroups {
		if !doomed(owner(filepath.Base(dir))) {
			continue
		}
		if out, err := exec.Command(isthmusBinary, "intercept", "clean", filepath.Base(dir)).CombinedOutput(); err != nil {
			return fmt.Errorf("clean: %w: %s", err, out)
		}
		if _, err := os.Stat(dir); err == nil {
			return fmt.Errorf("a program is left in cgroup %s", dir)
		}
	}
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"-*-world"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if doomed(owner(filepath.Base(dir))) {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// owner is the process whose a namespace or an interception is; 0: nobody's.
func owner(name string) int {
	_, rest, _ := strings.Cut(name, "-")
	pid, _, _ := strings.Cut(rest, "-")
	n, _ := strconv.Atoi(pid)
	return n
}

func gone(pid int) bool { return pid > 0 && syscall.Kill(pid, 0) == syscall.ESRCH }

func ours(pid int) bool { return pid == os.Getpid() }

// depopulate kills what runs in a namespace and waits until it has ended.
func depopulate(namespace string) error {
	deadline := time.Now().Add(limit)
	for {
		out, err := exec.Command("ip", "netns", "pids", namespace).Output()
		if err != nil {
			return fmt.Errorf("ip netns pids %s: %w", namespace, err)
		}
		pids := strings.Fields(string(out))
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v in %s do not end", pids, namespace)
		}
		for _, p := range pids {
			if pid, err := strconv.Atoi(p); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL) // gone meanwhile: good
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}
