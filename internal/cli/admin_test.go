package cli

import (
	"strings"
	"testing"
)

func TestInAContainerOfOursItsProcessIsAsked(t *testing.T) {
	t.Setenv(adminVariable, "127.0.0.1:1") // nobody is there
	for _, command := range []string{"status", "reload"} {
		if code, out := run(command); code == 0 || !strings.Contains(out, "127.0.0.1:1") || strings.Contains(out, "15000") {
			t.Errorf("%s: %d, %s", command, code, out)
		}
		if code, out := run(command, "--admin", "127.0.0.1:2"); code == 0 || !strings.Contains(out, "127.0.0.1:2") {
			t.Errorf("%s with --admin: %d, %s", command, code, out)
		}
	}
}
