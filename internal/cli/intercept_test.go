package cli

import (
	"bytes"
	"os"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

func TestCleaningWhatIsCleanDoesNotSayThatSomethingIsRemoved(t *testing.T) {
	if os.Getuid() != 0 {
		harness.Lacking(t, "needs root to look for hooks and tables")
	}
	var b bytes.Buffer
	if code := Main([]string{"intercept", "clean", "no-such-interception"}, &b, &b); code != 0 || b.String() != "interception no-such-interception: nothing to remove\n" {
		t.Errorf("exit code %d: %s", code, b.String())
	}
}
