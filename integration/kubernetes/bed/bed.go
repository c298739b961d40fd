// Package bed runs real Kubernetes clusters on this machine, without Docker and
// without a registry: each is one node, made of namespaces and cgroups by the scripts
// beside this file, with the servers that ../servers builds. The scripts can be used
// by hand as well:
//
//	bed/build              once; scripts/test does it
//	bed/up east 1          a cluster; bed/up west 2 control: without pods
//	nsenter --net=/run/netns/kube-wan $BED/bin/kubectl --kubeconfig $BED/run/east/pki/admin.conf get pods -A
//	bed/down               the end of all of them
//
// Pods are 10.42.0.0/24 and services 10.43.0.0/16 in each cluster; what clusters have
// in common is the network of their nodes, 10.210.0.0/24, which a test reaches by
// [Command]. A cluster's node is cgroup, PID and network namespace in one, so that it can
// be frozen, cut off and killed like a machine.
//
// It takes root and cgroup v1 hierarchies beside the unified one (systemd's hybrid mode).
package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Bed is where the clusters' programs, images and running state are.
type Bed struct {
	dir     string
	scripts string
	lock    *os.File
}

// Open returns the machine's bed, and removes what a killed run left in it. One process
// has it at a time: a second one waits. The error says what the machine lacks.
func Open(ctx context.Context) (*Bed, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a Kubernetes cluster needs root")
	}
	if _, err := os.Stat("/sys/fs/cgroup/freezer"); err != nil {
		return nil, errors.New("a Kubernetes cluster needs cgroup v1 hierarchies here (systemd.unified_cgroup_hierarchy=0)")
	}
	dir := os.Getenv("BED")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(cache, "isthmus-kubernetes")
	}
	b := &Bed{dir: dir, scripts: filepath.Join(sourceDir(), "integration/kubernetes/bed")}
	if _, err := os.Stat(filepath.Join(dir, "built")); err != nil {
		return nil, fmt.Errorf("no Kubernetes is built: run integration/kubernetes/bed/build (%w)", err)
	}
	var err error
	if b.lock, err = os.Create(filepath.Join(dir, "lock")); err != nil {
		return nil, err
	}
	for { // not in the kernel, so that ctx counts
		err := syscall.Flock(int(b.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another test has the clusters of this machine: %w", err), b.lock.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err := b.script(ctx, "down"); err != nil {
		return nil, errors.Join(err, b.lock.Close())
	}
	return b, b.script(ctx, "wan")
}

// Close ends all clusters and machines and removes what they left.
func (b *Bed) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(b.script(ctx, "down"), b.lock.Close())
}

// Command runs a program where all nodes can be reached, as an administrator's
// machine would be.
func Command(ctx context.Context, argv ...string) *exec.Cmd {
	return inNetwork(ctx, "kube-wan", argv...)
}

// Program is the path of one of the bed's: kubectl, helm, etcd, ….
func (b *Bed) Program(name string) string { return filepath.Join(b.dir, "bin", name) }

// Isthmus builds the program and its image (test/isthmus:dev), both in dir.
func (b *Bed) Isthmus(ctx context.Context, dir string) (program, image string, err error) {
	program, image = filepath.Join(dir, "isthmus"), filepath.Join(dir, "isthmus.tar")
	if err := goBuild(ctx, program, "."); err != nil {
		return "", "", err
	}
	return program, image, Image(ctx, image, "test/isthmus:dev", "65532", program+"=/isthmus")
}

// ProbeImage builds the image of integration/kubernetes/probe, test/probe:dev, in dir.
func (b *Bed) ProbeImage(ctx context.Context, dir string) (image string, err error) {
	program := filepath.Join(dir, "probe")
	if err := goBuild(ctx, program, "./integration/kubernetes/probe"); err != nil {
		return "", err
	}
	image = program + ".tar"
	return image, Image(ctx, image, "test/probe:dev", "1000", program+"=/probe")
}

// Image writes an image as scripts/image does: files are FILE=PATH, the first one the
// entrypoint.
func Image(ctx context.Context, out, tag, user string, files ...string) error {
	argv := append([]string{"run", "./scripts/oci", "-o", out, "-t", tag, "-user", user}, files...)
	return run(inSource(exec.CommandContext(ctx, "go", argv...)))
}

func goBuild(ctx context.Context, out, pkg string) error {
	cmd := inSource(exec.CommandContext(ctx, "go", "build", "-o", out, pkg))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return run(cmd)
}

func (b *Bed) script(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(b.scripts, name), args...)
	cmd.Env = append(os.Environ(), "BED="+b.dir)
	return run(cmd)
}

// sourceDir is the repository's, where the tests run.
func sourceDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../..")
}

func inSource(cmd *exec.Cmd) *exec.Cmd {
	cmd.Dir = sourceDir()
	return cmd
}

// inNetwork is a command in a network namespace; of the rest it sees what we see.
func inNetwork(ctx context.Context, namespace string, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + namespace, "--"}, argv...)...)
	cmd.WaitDelay = time.Second
	return cmd
}

// run runs a command to its end; what it printed is in the error.
func run(cmd *exec.Cmd) error {
	_, err := output(cmd)
	return err
}

// output is [run], and returns what the command printed.
func output(cmd *exec.Cmd) (string, error) {
	cmd.WaitDelay = time.Second // a cluster that up leaves behind holds no pipe of ours
	var out, problems strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(problems.String()+out.String()))
	}
	return out.String(), nil
}
