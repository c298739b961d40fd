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

// runProgram starts the program and returns when it has ended, by itself or, after
// ctx has, because it was asked to.
func runProgram(ctx context.Context, start programStart, grace time.Duration) error {
	// One locked thread starts the program and stays until it has ended: the
	// kernel sends the death signal when the thread ends, not the process.
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: what denySplice denies is denied to the thread
		result <- start.run(ctx, grace)
	}()
	return <-result
}

// run runs argv on this thread. The kernel kills it when the sidecar dies without
// a chance to end it, so that a program is never reachable beside a dead
// sidecar under a name that the mesh has given up. Otherwise it is asked to end when
// ctx does, and killed when it has not after grace.
func (start programStart) run(ctx context.Context, grace time.Duration) error {
	if start.unspliced {
		if err := denySplice(); err != nil {
			return fmt.Errorf("start the program: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, start.argv[0], start.argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = max(grace, 1) // 0 would be for ever
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if start.cgroup != nil { // born in it: not even its first connection escapes
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(start.cgroup.Fd())
	}
	err := cmd.Start()
	if err == nil {
		err = outcome(cmd.Path, cmd.Wait())
	} else {
		err = fmt.Errorf("start the program: %w", err)
	}
	if ctx.Err() != nil {
		return nil // it was asked to end
	}
	return err
}

// outcome says how a program ended that was waited for.
func outcome(program string, err error) error {
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return &ProgramError{Program: program}
	case !failed:
		return err
	}
	code := exit.ExitCode()
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		code = 128 + int(s.Signal())
	}
	return &ProgramError{Program: program, Code: code}
}
