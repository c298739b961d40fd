package netns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/integration/hosts"
	"github.com/isthmus-mesh/isthmus/interception"
)

// inCgroup is a command in the cgroup that a sidecar captures, not started by it: it
// outlives the sidecar.
func (h *host) inCgroup(ctx context.Context, name string, argv ...string) (_ *exec.Cmd, release func() error, err error) {
	root, err := interception.CgroupRoot()
	if err != nil {
		return nil, nil, err
	}
	cgroup, err := os.Open(filepath.Join(root, "isthmus", hosts.InterceptionName(name)))
	if err != nil {
		return nil, nil, err
	}
	cmd := h.Command(ctx, argv...)
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(cgroup.Fd())
	return cmd, cgroup.Close, nil
}

// ask runs argv in a sidecar's cgroup.
func (h *host) ask(name string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit/2)
	defer cancel()
	cmd, release, err := h.inCgroup(ctx, name, argv...)
	if err != nil {
		return "", err
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return string(out), errors.Join(err, release())
}

// addresses asks the sidecar's resolver, as a captured program does, for the virtual
// addresses of shop/orders: the IPv4 one first.
func (h *host) addresses(t *testing.T, name string) []string {
	t.Helper()
	var all []string
	err := harness.Eventually(func() error {
		out, err := h.ask(name, self, "program", "resolve", "orders.shop.mesh")
		all = slices.Sorted(slices.Values(strings.Fields(out)))
		if err == nil && len(all) != 2 {
			err = fmt.Errorf("orders.shop.mesh has the addresses %v, want one of each IP", all)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// load is a program that makes connection after connection, in a sidecar's cgroup.
type load struct {
	mu    sync.Mutex
	lines map[string]int // how often it printed each
	run   int            // how often the last one in a row
	last  string
	since time.Time // when the row began
	err   error     // it has ended
}

// loadOn starts a load on addresses.
func (h *host) loadOn(t *testing.T, name string, addresses []string) *load {
	t.Helper()
	cmd, release, err := h.inCgroup(context.Background(), name, append([]string{self, "program", "load"}, addresses...)...)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	lines, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err := errors.Join(err, release()); err != nil {
		t.Fatal(err)
	}
	l := &load{lines: map[string]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.read(lines)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Logf("the load printed %v", l.lines)
	})
	return l
}

func (l *load) read(r io.Reader) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		l.mu.Lock()
		l.lines[s.Text()]++
		if l.run++; l.last != s.Text() {
			l.last, l.run, l.since = s.Text(), 1, time.Now()
		}
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = errors.Join(s.Err(), io.EOF)
}

// all waits until the load has printed nothing but line n times from now on, and
// returns when that began.
func (l *load) all(t *testing.T, line string, n int) time.Time {
	t.Helper()
	l.mu.Lock()
	l.last = "" // a new row
	l.mu.Unlock()
	var since time.Time
	err := harness.Eventually(func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.last == line && l.run >= n {
			since = l.since
			return nil
		}
		return errors.Join(fmt.Errorf("the load printed %q last, %d times in a row; want %q %d times", l.last, l.run, line, n), l.err)
	})
	if err != nil {
		t.Fatal(err)
	}
	return since
}

// count returns how often the load has printed a line.
func (l *load) count(line string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines[line]
}
