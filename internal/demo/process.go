package demo

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
	"time"
)

const termTimeout = 5 * time.Second // a process that has not ended on SIGTERM by then is killed

// process is one program of the demo, in a process group of its own so that a
// sidecar and the program it started can be hit together.
type process struct {
	name string
	args []string // of this binary
	log  string   // file that takes its output

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil while it does not run
	exited chan struct{} // closed when cmd has been waited for
}

// spawner starts processes on one locked thread: the kernel sends a process
// its parent-death signal when the thread that started it ends, and this one
// lives as long as the demo. So nothing stays behind, however the demo ends.
type spawner struct {
	calls chan func()
	wg    sync.WaitGroup
}

func newSpawner() *spawner {
	s := &spawner{calls: make(chan func())}
	s.wg.Go(func() {
		runtime.LockOSThread()
		for call := range s.calls {
			call()
		}
	})
	return s
}

func (s *spawner) close() {
	close(s.calls)
	s.wg.Wait()
}

// start runs p's program; its output is appended to its log.
func (s *spawner) start(p *process) error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.Background(), self, p.args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	s.calls <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	exited := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.exited = cmd, exited
	p.mu.Unlock()
	s.wg.Go(func() {
		_ = cmd.Wait() // that it ended is what matters; why is in its log
		p.mu.Lock()
		p.cmd = nil
		p.mu.Unlock()
		close(exited)
	})
	return nil
}

// signal sends sig to the process and everything it started.
func (p *process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s does not run: see %s", p.name, p.log)
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// kill ends the process group as a crash would and waits for it.
func (p *process) kill() error {
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-exited
	return nil
}

// stop ends a running process, gently at first.
func (p *process) stop() {
	p.mu.Lock()
	running, exited := p.cmd != nil, p.exited
	p.mu.Unlock()
	if !running {
		return
	}
	_ = p.signal(syscall.SIGCONT) // it may be frozen
	_ = p.signal(syscall.SIGTERM) // gone already: exited says so
	select {
	case <-exited:
	case <-time.After(termTimeout):
		_ = p.signal(syscall.SIGKILL)
		<-exited
	}
}

// died returns an error with the end of the process's log when it has ended.
func (p *process) died() error {
	p.mu.Lock()
	running := p.cmd != nil
	p.mu.Unlock()
	if running {
		return nil
	}
	b, err := os.ReadFile(p.log)
	if err != nil {
		return errors.Join(fmt.Errorf("%s ended", p.name), err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return fmt.Errorf("%s ended; the end of %s:\n  %s", p.name, filepath.Base(p.log), strings.Join(lines[max(0, len(lines)-5):], "\n  "))
}
