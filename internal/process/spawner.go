package process

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Place is where a program runs. The zero value is where this process does.
type Place struct {
	Cgroup *os.File // nil: this process's
	// Thread calls start on the spawner's thread, for who binds that to a core or
	// has it enter a network namespace before. nil: as it is.
	Thread func(start func() error) error
}

// Spawner starts programs on one locked thread. The kernel sends a program its
// parent-death signal when the thread that started it ends, and this one lives
// until Close, so nothing stays behind even after a kill -9 of this process. A
// program also inherits the thread's core and network namespace.
type Spawner struct {
	calls chan func()
	wg    sync.WaitGroup // the thread, and whoever waits for a process
}

// NewSpawner returns a running spawner.
func NewSpawner() *Spawner {
	s := &Spawner{calls: make(chan func())}
	s.wg.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for call := range s.calls {
			call()
		}
	})
	return s
}

// Do calls f on the thread and waits for it.
func (s *Spawner) Do(f func() error) error {
	done := make(chan error, 1)
	s.calls <- func() { done <- f() }
	return <-done
}

// Start starts cmd in a process group of its own.
func (s *Spawner) Start(cmd *exec.Cmd, at Place) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if at.Cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(at.Cgroup.Fd())
	}
	if at.Thread == nil {
		return s.Do(cmd.Start)
	}
	return s.Do(func() error { return at.Thread(cmd.Start) })
}

// Close ends the thread, and with it whatever it started that still runs.
func (s *Spawner) Close() {
	close(s.calls)
	s.wg.Wait()
}
