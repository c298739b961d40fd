package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is one program that the benchmark runs, in a process group of its own.
type process struct {
	name string   // of its role, unique within its contender
	dir  string   // holds its files
	args []string // with the program itself
	place

	cmd    *exec.Cmd     // set by start
	exited chan struct{} // closed when it has ended and been waited for
}

// place is where a program runs.
type place struct {
	cpu    int      // the core that it is bound to, or anyCPU
	netns  *os.File // its network namespace; nil: the benchmark's
	cgroup *os.File // nil: the benchmark's
}

// start runs the process; its output goes to the file log in its directory.
func (p *process) start(s *spawner) error {
	out, err := os.OpenFile(p.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(context.Background(), p.args[0], p.args[1:]...) // stop ends it
	cmd.Stdout, cmd.Stderr = out, out
	if err := s.start(cmd, p.place); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.exited = cmd, make(chan struct{})
	s.wg.Go(func() {
		_ = cmd.Wait() // that it ended is what matters; why is in its log
		close(p.exited)
	})
	return nil
}

// stop kills the process with all it started, and waits for it: it holds
// nothing that is worth an orderly end.
func (p *process) stop() {
	if p.cmd == nil {
		return
	}
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // gone by now: exited says so
		<-p.exited
	}
}

// died returns an error with the end of the process's log when it has ended.
func (p *process) died() error {
	select {
	case <-p.exited:
	default:
		return nil
	}
	return fmt.Errorf("%s ended; the end of its log:\n%s", p.name, p.tail())
}

// tail returns the last lines of the process's log.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-5):], "\n  ")
}

func (p *process) log() string { return filepath.Join(p.dir, "log") }

// spawner starts programs on one locked thread. The kernel sends a program its
// parent-death signal when the thread that started it ends, and this one lives
// as long as the benchmark, so nothing stays behind even after a kill -9. A
// program also inherits the thread's core and network namespace.
type spawner struct {
	calls chan func()
	wg    sync.WaitGroup
}

func newSpawner() *spawner {
	s := &spawner{calls: make(chan func())}
	s.wg.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for call := range s.calls {
			call()
		}
	})
	return s
}

// do calls f on the thread and waits for it.
func (s *spawner) do(f func() error) error {
	done := make(chan error, 1)
	s.calls <- func() { done <- f() }
	return <-done
}

// start starts a program in the given place.
func (s *spawner) start(cmd *exec.Cmd, at place) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if at.cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(at.cgroup.Fd())
	}
	return s.do(func() error {
		if err := bind(at.cpu); err != nil {
			return err
		}
		if at.netns == nil {
			return cmd.Start()
		}
		return inNetwork(at.netns, cmd.Start)
	})
}

// close ends the thread, after every program that it started has ended.
func (s *spawner) close() {
	close(s.calls)
	s.wg.Wait()
}

// anyCPU leaves the choice of core to the scheduler.
const anyCPU = -1

// cpus says who runs where.
type cpus struct {
	load    int // wrk, the origin, and processes that carry no traffic
	proxies int
}

// chooseCPUs gives the load one core and the proxies another, so that both
// have the same on every machine. With one core there is nothing to choose.
func chooseCPUs() (cpus, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return cpus{}, fmt.Errorf("ask for this process's cores: %w", err)
	}
	var allowed []int
	for cpu := 0; len(allowed) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			allowed = append(allowed, cpu)
		}
	}
	if len(allowed) < 2 {
		return cpus{anyCPU, anyCPU}, nil
	}
	return cpus{load: allowed[0], proxies: allowed[1]}, nil
}

// bind moves the calling thread to a core.
func bind(cpu int) error {
	if cpu == anyCPU {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind to core %d: %w", cpu, err)
	}
	return nil
}

// firstDead returns the error of the first process that has ended.
func firstDead(ps []*process) error {
	var errs []error
	for _, p := range ps {
		errs = append(errs, p.died())
	}
	return errors.Join(errs...)
}
