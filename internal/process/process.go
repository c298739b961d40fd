package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is one program and what it starts, in a process group of its own so
// that all of it can be hit together. The exported fields are set before Start.
// It may be started again when it has ended. Safe for concurrent use.
type Process struct {
	Name string
	Args []string // the program first
	Env  []string // nil: this process's
	Log  string   // the file to which its output is appended
	Place

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil: never started
	exited chan struct{} // closed when cmd has been waited for
	told   bool          // to end
	err    error         // why it ended without being told to, whenever it did
}

// Start starts the program.
func (p *Process) Start(s *Spawner) error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(context.Background(), p.Args[0], p.Args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.Env, log, log
	exited := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := s.Start(cmd, p.Place); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.cmd, p.exited, p.told = cmd, exited, false
	s.wg.Go(func() {
		_ = cmd.Wait() // its state says why it ended
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.told {
			p.err = fmt.Errorf("%s ended by itself: %s", p.Name, cmd.ProcessState)
		}
		close(exited)
	})
	return nil
}

// PID returns the process's number, 0 when it does not run.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.runningLocked() {
		return 0
	}
	return p.cmd.Process.Pid
}

// Running reports whether it runs, frozen or not.
func (p *Process) Running() bool { return p.PID() != 0 }

func (p *Process) runningLocked() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Signal sends sig to the whole group: SIGSTOP freezes it, SIGCONT thaws it.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.runningLocked() {
		return fmt.Errorf("%s does not run: see %s", p.Name, p.Log)
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Kill ends the group as a crash would and waits for it. What does not run stays so.
func (p *Process) Kill() {
	p.mu.Lock()
	p.told = true
	if !p.runningLocked() {
		p.mu.Unlock()
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // gone since: exited says so
	exited := p.exited
	p.mu.Unlock()
	<-exited
}

// End sends sig to the whole group and waits for the end of the process; after limit
// it kills, which is an error.
func (p *Process) End(sig syscall.Signal, limit time.Duration) error {
	return p.end(func(pid int) { _ = syscall.Kill(-pid, sig) }, sig, limit)
}

// EndAlone is End with a signal to the process only, as service managers send it.
func (p *Process) EndAlone(sig syscall.Signal, limit time.Duration) error {
	return p.end(func(pid int) { _ = syscall.Kill(pid, sig) }, sig, limit)
}

func (p *Process) end(send func(pid int), sig syscall.Signal, limit time.Duration) error {
	p.mu.Lock()
	p.told = true
	if !p.runningLocked() {
		p.mu.Unlock()
		return nil
	}
	send(p.cmd.Process.Pid) // gone since: exited says so
	exited := p.exited
	p.mu.Unlock()
	select {
	case <-exited:
		return nil
	case <-time.After(limit):
		p.Kill()
		return fmt.Errorf("%s does not end on %v", p.Name, sig)
	}
}

// Err is nil for a process that runs, or ran until it was told to end, and did
// not write that it broke. Else it says what was wrong, with the end of the log.
func (p *Process) Err() error {
	p.mu.Lock()
	err := p.err
	p.mu.Unlock()
	log, readErr := os.ReadFile(p.Log)
	for _, bad := range []string{"panic:", "fatal error:", "WARNING: DATA RACE"} {
		if readErr == nil && bytes.Contains(log, []byte(bad)) {
			err = errors.Join(err, fmt.Errorf("%s: %s", p.Name, bad))
		}
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w; the end of %s:\n  %s", err, filepath.Base(p.Log), strings.ReplaceAll(p.Tail(5), "\n", "\n  "))
}

// Tail returns the last lines of the log.
func (p *Process) Tail(lines int) string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
