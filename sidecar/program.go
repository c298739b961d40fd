package sidecar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// ProgramError is returned by [Sidecar.Run] when the program that the sidecar
// started has ended: the sidecar ends with it and with its exit code.
type ProgramError struct {
	Program string
	Code    int // exit code; 128 plus the signal's number when a signal ended it
}

// Error says how the program ended.
func (e *ProgramError) Error() string {
	return fmt.Sprintf("%s ended with exit code %d", e.Program, e.Code)
}

// programStart is what to start, and how.
type programStart struct {
	argv      []string
	cgroup    *os.File // nil: ours
	unspliced bool     // kept from the calls that denySplice says
}

// program is the process that a sidecar starts and ends with.
type program struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has been waited for
	err    error         // why it ended; read after exited
}

// startProgram starts argv. The kernel kills it when the sidecar dies without
// a chance to end it, so that a program is never reachable beside a dead
// sidecar under a name that the mesh has given up. The caller must be on a
// locked thread that outlives the program: the signal is bound to the thread.
func startProgram(start programStart) (*program, error) {
	if start.unspliced {
		if err := denySplice(); err != nil {
			return nil, fmt.Errorf("start the program: %w", err)
		}
	}
	cmd := exec.Command(start.argv[0], start.argv[1:]...) //nolint:noctx // it outlives every context: end stops it
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if start.cgroup != nil { // born in it: not even its first connection escapes
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(start.cgroup.Fd())
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the program: %w", err)
	}
	p := &program{cmd: cmd, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		p.err = p.outcome(cmd.Wait())
	}()
	return p, nil
}

func (p *program) outcome(err error) error {
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return &ProgramError{Program: p.cmd.Path}
	case !failed:
		return err
	}
	code := exit.ExitCode()
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		code = 128 + int(s.Signal())
	}
	return &ProgramError{Program: p.cmd.Path, Code: code}
}

// end asks the program to end and kills it when it has not after grace.
func (p *program) end(grace time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already: exited says so
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.exited:
	case <-t.C:
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// runProgram starts the program and returns when it has ended, by itself or, after
// ctx has, because it was asked to.
func runProgram(ctx context.Context, start programStart, grace time.Duration) error {
	// One locked thread starts the program and stays until it has ended: the
	// kernel sends the death signal when the thread ends, not the process.
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: what denySplice denies is denied to the thread
		p, err := startProgram(start)
		if err != nil {
			result <- err
			return
		}
		select {
		case <-p.exited:
			result <- p.err
		case <-ctx.Done():
			p.end(grace)
			result <- nil
		}
	}()
	return <-result
}
