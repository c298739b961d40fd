package sidecar

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/osuser"
)

func TestTheProgramsExitCodeIsTheSidecars(t *testing.T) {
	for command, code := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143, "kill -KILL $$": 137} {
		err := newProgram([]string{"/bin/sh", "-c", command}, nil).run(t.Context(), programStart{grace: time.Minute})
		ended, ok := errors.AsType[*ProgramError](err)
		if !ok || ended.Code != code {
			t.Errorf("%q: %v, want exit code %d", command, err, code)
		}
	}
}

func TestAProgramOfAnotherUserCannotReadTheSidecarsKey(t *testing.T) {
	if os.Getuid() != 0 {
		harness.Lacking(t, "root, to run a program as another user")
	}
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	nobody, err := osuser.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	for user, code := range map[*osuser.User]int{nil: 0, nobody: 5} {
		script := `[ "$(id -G | tr " " "\n" | grep -cx 0)" = 0 ] || [ "$(id -u)" = 0 ] || exit 6; cat "$0" > /dev/null 2>&1 || exit 5`
		err := newProgram([]string{"/bin/sh", "-c", script, key}, nil).run(t.Context(), programStart{user: user, grace: time.Minute})
		if ended, ok := errors.AsType[*ProgramError](err); !ok || ended.Code != code {
			t.Errorf("user %v: %v, want exit code %d", user, err, code)
		}
	}
}

func TestAProgramThatIsNotThereIsAnError(t *testing.T) {
	err := newProgram([]string{filepath.Join(t.TempDir(), "nothing")}, nil).run(t.Context(), programStart{grace: time.Minute})
	if err == nil || !strings.Contains(err.Error(), "start the program") {
		t.Errorf("got %v", err)
	}
}

func TestTheProgramIsAskedToEndAndKilledWhenItDoesNot(t *testing.T) {
	for name, script := range map[string]string{
		"obeys":  `trap 'echo obeyed > "$0.end"; exit 0' TERM; : > "$0"; while :; do sleep 0.01; done`,
		"fails":  `trap 'echo obeyed > "$0.end"; exit 9' TERM; : > "$0"; while :; do sleep 0.01; done`,
		"shell":  `trap 'echo obeyed > "$0.end"; exit 143' TERM; : > "$0"; while :; do sleep 0.01; done`,
		"dies":   `: > "$0"; while :; do sleep 0.01; done`,
		"clings": `trap '' TERM; : > "$0"; while :; do sleep 0.01; done`,
	} {
		t.Run(name, func(t *testing.T) {
			started := filepath.Join(t.TempDir(), "started")
			if err := unix.Mkfifo(started, 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			grace := time.Minute
			if name == "clings" {
				grace = 10 * time.Millisecond
			}
			go func() {
				ended <- newProgram([]string{"/bin/sh", "-c", script, started}, nil).run(ctx, programStart{grace: grace})
			}()
			if _, err := os.ReadFile(started); err != nil { // until the program has opened it, and closed it
				t.Fatal(err)
			}
			cancel()
			err, code := <-ended, 0
			if p, ok := errors.AsType[*ProgramError](err); ok {
				code = p.Code
			} else if err != nil {
				t.Errorf("a program that was asked to end is an error: %v", err)
			}
			if want := map[string]int{"fails": 9, "clings": 137}[name]; code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			if _, err := os.Stat(started + ".end"); (err == nil) != (name != "clings" && name != "dies") {
				t.Errorf("the program was not asked to end: %v", err)
			}
		})
	}
}

func TestASignalIsPassedOnToTheProgram(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	if err := unix.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProgram([]string{"/bin/sh", "-c", `trap 'exit 9' USR1; : > "$0"; while :; do sleep 0.01; done`, started}, nil)
	ended := make(chan error, 1)
	go func() { ended <- p.run(t.Context(), programStart{grace: time.Minute}) }()
	if _, err := os.ReadFile(started); err != nil {
		t.Fatal(err)
	}
	p.signal(unix.SIGUSR1)
	if got, ok := errors.AsType[*ProgramError](<-ended); !ok || got.Code != 9 {
		t.Error(got)
	}
	p.signal(unix.SIGUSR1) // nobody is there any more
}

func TestOrphansAreReapedAndTheProgramIsLeftToItsWaiter(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil { // as PID 1 is
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) //nolint:errcheck // it was possible before
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "for i in 1 2 3; do (sh -c 'echo $PPID' &); done; sleep 0.1; exit 5")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := reapOrphans(cmd.Process.Pid)
	if _, err := io.ReadAll(out); err != nil { // until all of them have ended
		t.Error(err)
	}
	err = cmd.Wait()
	stop()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 5 {
		t.Errorf("the program: %v", err)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		t.Errorf("child %d is left: %v", pid, err)
	}
}
