package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/osuser"
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

// program is what the sidecar starts and ends with. run is called once; the other
// methods may be called concurrently.
type program struct {
	argv []string
	log  *slog.Logger

	asked   context.Context // over when it is to end
	ask     context.CancelFunc
	mu      sync.Mutex    // guards process, and is held while it starts: a signal then is for it
	process *os.Process   // nil: it has not been started
	ended   chan struct{} // closed when run has returned, or will not be called
	end     func()        // closes it, once
}

func newProgram(argv []string, log *slog.Logger) *program {
	p := &program{argv: argv, log: log, ended: make(chan struct{})}
	p.end = sync.OnceFunc(func() { close(p.ended) })
	p.asked, p.ask = context.WithCancel(context.Background())
	return p
}

// programStart is how to start a program.
type programStart struct {
	cgroup    *os.File     // nil: ours
	user      *osuser.User // nil: ours
	unspliced bool         // kept from the calls that denySplice says
	grace     time.Duration
}

// run runs the program until it has ended, and returns a [*ProgramError]. It is asked
// to end when ctx ends, and killed when it has not ended after the grace; having been
// asked and ended well, with code 0 or by the signal that asks, is nil.
func (p *program) run(ctx context.Context, start programStart) error {
	defer p.end()
	defer context.AfterFunc(ctx, p.ask)()
	// One locked thread starts the program and stays until it has ended: the
	// kernel sends the death signal when the thread ends, not the process.
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: what denySplice denies is denied to the thread
		result <- p.runHere(start)
	}()
	return <-result
}

// runHere runs the program from this thread. The kernel kills it when the sidecar
// dies without a chance to end it, so that a program is never reachable beside a
// dead sidecar under a name that the mesh has given up.
func (p *program) runHere(start programStart) error {
	if start.unspliced {
		if err := denySplice(); err != nil {
			return fmt.Errorf("start the program: %w", err)
		}
	}
	cmd := exec.CommandContext(p.asked, p.argv[0], p.argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = max(start.grace, 1) // 0 would be for ever
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if start.cgroup != nil { // born in it: not even its first connection escapes
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(start.cgroup.Fd())
	}
	if start.user != nil {
		become(cmd, start.user)
	}
	p.mu.Lock()
	err := cmd.Start()
	p.process = cmd.Process
	p.mu.Unlock()
	if errors.Is(err, syscall.EPERM) && start.user != nil {
		err = fmt.Errorf("%w: a sidecar needs to be root, or to hold CAP_SETUID and CAP_SETGID, to run its program as %s", err, start.user.Name)
	}
	if err == nil {
		if os.Getpid() == 1 {
			defer reapOrphans(cmd.Process.Pid)()
		}
		err = outcome(cmd.Path, cmd.Wait())
	} else {
		err = fmt.Errorf("start the program: %w", err)
	}
	if p.asked.Err() == nil {
		return err
	}
	// Of one that was asked, [exec.Cmd.Wait] does not say code 0.
	const byTheSignal = 128 + int(syscall.SIGTERM) // a shell or a JVM ends with it as a code, too
	if ended, ok := errors.AsType[*ProgramError](err); !ok || ended.Code == byTheSignal {
		return nil
	}
	return err
}

// become has the program run as u, with none of our groups and with u's home. The
// kernel then lets it neither read our key nor touch our pins.
func become(cmd *exec.Cmd, u *osuser.User) {
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	cmd.Env = append(os.Environ(), "HOME="+u.Home, "USER="+u.Name, "LOGNAME="+u.Name)
}

// stop asks the program to end and returns when it has, or when ctx has ended.
func (p *program) stop(ctx context.Context) error {
	p.ask()
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s has not ended: %w", p.argv[0], ctx.Err())
	}
}

// signal passes a signal on to the program, if it runs.
func (p *program) signal(sig os.Signal) {
	p.mu.Lock()
	process := p.process
	p.mu.Unlock()
	if process == nil {
		return
	}
	if err := process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.log.Warn("a signal was not passed on to the program", "signal", sig.String(), "err", err)
	}
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
