// Package harness is what the tests of the built program share: building it,
// waiting for what it does, and finding the programs that a test uses.
package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Limit bounds every wait: far beyond what a slow machine needs, so that only
// what never happens fails.
const Limit = 60 * time.Second

// Build builds the program into dir, as it is built for use, and returns its path.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "isthmus")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/isthmus-mesh/isthmus")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build isthmus: %w\n%s", err, out)
	}
	return path, nil
}

// Isthmus runs a command of the program and returns its output; it must succeed.
func Isthmus(binary string, args ...string) (string, error) {
	out, err := exec.CommandContext(context.Background(), binary, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("isthmus %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Eventually retries check until it passes.
func Eventually(check func() error) error {
	deadline := time.Now().Add(Limit)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", Limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Tool returns the path of a program that a test uses.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Lacking(t, name+" is not installed")
	}
	return path
}

// Lacking skips a test that this machine cannot run. In CI it fails: there
// everything is at hand.
func Lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}
