package hosts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"golang.org/x/sys/unix"
)

// What the names begin with.
const (
	prefix             = "isthmus"
	interceptionPrefix = "netns"
)

// Network is a bridge in the switch's namespace.
type Network struct {
	Name   string
	Number int // 10.NUMBER.0.0/24 and fd00:NUMBER::/64
}

// V4 is the address of a host of the network.
func (n Network) V4(host int) string { return fmt.Sprintf("10.%d.0.%d", n.Number, host) }

// V6 is its other one.
func (n Network) V6(host int) string { return fmt.Sprintf("fd00:%d::%d", n.Number, host) }

// TheSwitch is the host that every cable ends in.
const TheSwitch = "switch"

// PlugSwitch makes the switch.
func PlugSwitch(networks ...Network) error {
	if err := IP("", "netns add "+Namespace(TheSwitch)); err != nil {
		return err
	}
	var lines []string
	for _, n := range networks {
		lines = append(lines, "link add "+n.Name+" type bridge mcast_snooping 0", "link set "+n.Name+" up")
	}
	return IP(Namespace(TheSwitch), lines...)
}

// Namespace is the name of a host's network namespace.
func Namespace(host string) string { return fmt.Sprintf("%s-%d-%s", prefix, os.Getpid(), host) }

func namespaceFile(host string) string { return "/run/netns/" + Namespace(host) }

// Dir is where this process keeps the files of its hosts.
func Dir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("%s-%d-world", prefix, os.Getpid()))
}

// InterceptionName is what a sidecar's interception is called, so that a later run
// can clean it.
func InterceptionName(name string) string {
	return fmt.Sprintf("%s-%d-%s", interceptionPrefix, os.Getpid(), name)
}

// IP runs lines of ip(8) in a namespace; empty is ours.
func IP(namespace string, lines ...string) error {
	var argv []string
	if namespace != "" {
		argv = append(argv, "-n", namespace)
	}
	ctx, cancel := context.WithTimeout(context.Background(), harness.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", append(argv, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip in %s: %w: %s\n%s", namespace, err, strings.TrimSpace(string(out)), strings.Join(lines, "\n"))
	}
	return nil
}

// Within runs f in the network namespace of a host. The thread goes back afterwards
// and lives on: the death of a thread is what ends the processes that it started.
func Within(host string, f func() error) error {
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
