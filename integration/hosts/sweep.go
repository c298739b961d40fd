package hosts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/interception"
)

// Sweep removes the hosts, interceptions and files of the processes that doomed
// names, with all that runs there. binary is isthmus.
func Sweep(binary string, doomed func(pid int) bool) error {
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
		if err := IP("", "netns delete "+name); err != nil {
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
		if out, err := run(binary, "intercept", "clean", filepath.Base(dir)); err != nil {
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

// Gone reports whether a process has ended.
func Gone(pid int) bool { return pid > 0 && syscall.Kill(pid, 0) == syscall.ESRCH }

// Ours reports whether a process is this one.
func Ours(pid int) bool { return pid == os.Getpid() }

// run runs a program to its end and returns what it said.
func run(name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Limit)
	defer cancel()
	return exec.CommandContext(ctx, name, args...).CombinedOutput()
}

// depopulate kills what runs in a namespace and waits until it has ended.
func depopulate(namespace string) error {
	deadline := time.Now().Add(harness.Limit)
	for {
		out, err := run("ip", "netns", "pids", namespace)
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
