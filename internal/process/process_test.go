package process

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, script string) *Process {
	t.Helper()
	s := NewSpawner()
	p := &Process{Name: "script", Args: []string{"sh", "-c", script}, Log: filepath.Join(t.TempDir(), "log")}
	if err := p.Start(s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); s.Close() })
	return p
}

func (p *Process) wait() { <-p.exited }

func TestAProcessThatEndsByItselfIsAnErrorWithTheEndOfItsLog(t *testing.T) {
	p := start(t, "echo gone; exit 3")
	p.wait()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "script ended by itself: exit status 3; the end of log:\n  gone") {
		t.Errorf("%v", err)
	}
	if p.Running() || p.Signal(syscall.SIGTERM) == nil {
		t.Error("it runs")
	}
}

func TestAProcessThatWasToldToEndIsWellUnlessItPanicked(t *testing.T) {
	p := start(t, "exec sleep 600")
	if err := p.End(syscall.SIGTERM, time.Minute); err != nil || p.Err() != nil {
		t.Errorf("%v, %v", err, p.Err())
	}
	if err := os.WriteFile(p.Log, []byte("panic: at last\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "panic:") {
		t.Errorf("%v", err)
	}
}

func TestAFrozenGroupIsKilledWithAllOfIt(t *testing.T) {
	p := start(t, "sleep 600 & echo $!; wait")
	for p.Tail(1) == "" {
		time.Sleep(time.Millisecond)
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	group := p.PID()
	p.Kill()
	if err := syscall.Kill(-group, 0); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
	if p.Err() != nil {
		t.Error(p.Err())
	}
}

func TestWhatDoesNotEndInTimeIsKilledAndSaid(t *testing.T) {
	p := start(t, "trap '' TERM; echo up; while :; do sleep 1; done")
	for p.Tail(1) == "" {
		time.Sleep(time.Millisecond)
	}
	if err := p.End(syscall.SIGTERM, time.Millisecond); err == nil || !strings.Contains(err.Error(), "does not end on terminated") {
		t.Errorf("%v", err)
	}
	if p.Running() {
		t.Error("it runs")
	}
}

func TestPortsAreGivenOutOnce(t *testing.T) {
	p := NewPorts()
	seen := map[string]bool{}
	for range 20 {
		addrs, err := p.Take(3)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addrs {
			if seen[a] {
				t.Errorf("%s twice", a)
			}
			seen[a] = true
		}
	}
	if _, err := p.Take(lastPort); err == nil {
		t.Error("more ports than there are")
	}
}
