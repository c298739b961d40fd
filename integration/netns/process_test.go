package netns

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

// process is one that lives on, on a host. Its output is in a file.
type process struct {
	name string
	host *host
	argv []string
	log  string

	mu     sync.Mutex
	cmd    *exec.Cmd
	told   bool          // to end
	exited chan struct{} // closed when cmd has ended
	err    error         // why, when nobody had told it to
}

// start runs argv until it is killed.
func (h *host) start(name string, argv ...string) (*process, error) {
	p := &process{name: name, host: h, argv: argv, log: filepath.Join(h.w.dir, name+".log")}
	h.processes = append(h.processes, p)
	return p, p.start()
}

func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := p.host.command(context.Background(), p.argv...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	exited := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.told, p.exited = cmd, false, exited
	p.mu.Unlock()
	go func() {
		defer close(exited)
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.told {
			p.err = fmt.Errorf("%s ended by itself: %v", p.name, err)
		}
	}()
	return nil
}

// kill ends the process and all of its group at once, without a chance to clean up.
func (p *process) kill() {
	p.mu.Lock()
	if p.told = true; p.cmd == nil {
		p.mu.Unlock()
		return // it could not be started
	}
	pid, exited := p.cmd.Process.Pid, p.exited
	p.mu.Unlock()
	select {
	case <-exited: // the number may be another's by now
	default:
		_ = syscall.Kill(-pid, syscall.SIGKILL) // gone since: exited says so
		<-exited
	}
}

// verdict is nil for a process that ran well until it was told to end.
func (p *process) verdict() error {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err
	}
	for _, bad := range []string{"panic:", "fatal error:", "WARNING: DATA RACE"} {
		if bytes.Contains(log, []byte(bad)) {
			err = fmt.Errorf("%s: %s", p.name, bad)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(err, p.err)
}

// end kills what a host runs, and says what was wrong with it until now.
func (h *host) end() error {
	var err error
	for _, p := range h.processes {
		err = errors.Join(err, p.verdict())
		p.kill()
	}
	return err
}

// logs is the end of each process's log.
func (h *host) logs() string {
	var all strings.Builder
	for _, p := range h.processes {
		log, err := os.ReadFile(p.log)
		if err != nil {
			log = []byte(err.Error())
		}
		fmt.Fprintf(&all, "the end of %s's log:\n%s\n", p.name, log[max(0, len(log)-4000):])
	}
	return all.String()
}

// eventually retries check until it passes.
func eventually(check func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
