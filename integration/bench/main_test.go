package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/process"
)

// asRunner makes the test binary behave as a benchmark that hangs: it starts a
// program, prints its process ID, and waits to be killed.
const asRunner = "ISTHMUS_BENCH_TEST_RUNNER"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && parts[os.Args[1]] != nil {
		os.Exit(command(os.Args[1:]))
	}
	if os.Getenv(asRunner) != "" {
		p := newProcess("sleep", os.Getenv(asRunner), place{cpu: anyCPU}, "sleep", "600")
		if err := p.Start(process.NewSpawner()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(p.PID())
		select {}
	}
	os.Exit(runTests(m))
}

// binaries is where isthmus is built for all tests.
var binaries string

func runTests(m *testing.M) int {
	// A program with the race detector, such as a lone load, waits a second at
	// its end unless told otherwise.
	var err error
	if binaries, err = os.MkdirTemp("", "isthmus-bench-test-"); err == nil {
		defer os.RemoveAll(binaries)
		err = os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

var buildOnce = sync.OnceValues(func() (string, error) { return buildIsthmus(context.Background(), binaries) })

// isthmus returns the program that this source tree is.
func isthmus(t *testing.T) string {
	t.Helper()
	path, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// smokeOptions are those of -smoke. Without nginx the test is skipped, but
// in CI it fails; HAProxy and Envoy may be missing everywhere.
func smokeOptions(t *testing.T) options {
	t.Helper()
	if _, err := findTools(t.Context()); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	opts, err := parseFlags([]string{"-smoke"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return opts
}

func TestADirectoryForProfilesThatCannotBeMadeIsToldAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := run(t.Context(), options{profile: filepath.Join(file, "profiles")}, io.Discard)
	if err == nil || !strings.HasPrefix(err.Error(), "-profile: ") {
		t.Errorf("got %v", err)
	}
}
