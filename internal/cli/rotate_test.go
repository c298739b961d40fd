package cli

import (
	"strings"
	"testing"
)

func TestAfterARotationThatIsCompleteAnotherBeginsOnlyWhenAskedFor(t *testing.T) {
	dir := t.TempDir()
	rotate := func(flags ...string) (int, string) {
		return run(append([]string{"pki", "--dir", dir, "rotate", "--force"}, flags...)...)
	}
	if code, out := run("pki", "--dir", dir, "init", "--trust-domain", "mesh.example"); code != 0 {
		t.Fatal(out)
	}
	for _, says := range []string{"step 1 of 4", "step 2 of 4", "step 3 of 4", "the rotation is complete"} {
		if code, out := rotate(); code != 0 || !strings.Contains(out, says) {
			t.Fatalf("%d, want %q:\n%s", code, says, out)
		}
	}
	if code, out := rotate(); code != 1 || !strings.Contains(out, "the last rotation is complete") || !strings.Contains(out, "--again") {
		t.Errorf("it begins the next one: %d\n%s", code, out)
	}
	if code, out := rotate("--again"); code != 0 || !strings.Contains(out, "step 1 of 4") {
		t.Errorf("asked for: %d\n%s", code, out)
	}
	if code, out := rotate(); code != 0 || !strings.Contains(out, "step 2 of 4") {
		t.Errorf("its next step: %d\n%s", code, out)
	}
}
