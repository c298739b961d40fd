package e2e

import (
	"os"
	"os/exec"

	"path/filepath"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

// goTool builds a program of the module in tools, and returns its path.
func goTool(t *testing.T, pkg string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", file, pkg)
	cmd.Dir = "tools"
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		harness.Lacking(t, "build "+pkg+": "+err.Error()+"\n"+string(out))
	}
	return file
}
