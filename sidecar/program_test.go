package sidecar

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTheProgramsExitCodeIsTheSidecars(t *testing.T) {
	for command, code := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143, "kill -KILL $$": 137} {
		err := runProgram(t.Context(), programStart{argv: []string{"/bin/sh", "-c", command}}, time.Minute)
		ended, ok := errors.AsType[*ProgramError](err)
		if !ok || ended.Code != code {
			t.Errorf("%q: %v, want exit code %d", command, err, code)
		}
	}
}

func TestAProgramThatIsNotThereIsAnError(t *testing.T) {
	err := runProgram(t.Context(), programStart{argv: []string{filepath.Join(t.TempDir(), "nothing")}}, time.Minute)
	if err == nil || !strings.Contains(err.Error(), "start the program") {
		t.Errorf("got %v", err)
	}
}

func TestTheProgramIsAskedToEndAndKilledWhenItDoesNot(t *testing.T) {
	for name, script := range map[string]string{
		"obeys":  `trap 'echo obeyed > "$0.end"; exit 0' TERM; : > "$0"; while :; do sleep 0.01; done`,
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
				ended <- runProgram(ctx, programStart{argv: []string{"/bin/sh", "-c", script, started}}, grace)
			}()
			if _, err := os.ReadFile(started); err != nil { // until the program has opened it, and closed it
				t.Fatal(err)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("a program that was asked to end is an error: %v", err)
			}
			if _, err := os.Stat(started + ".end"); (err == nil) != (name == "obeys") {
				t.Errorf("the program was not asked to end: %v", err)
			}
		})
	}
}
