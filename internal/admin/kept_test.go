package admin

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestAFileThatCannotBeWrittenIsInTheStatusAndTheMetrics(t *testing.T) {
	var full error
	files := []KeptFile{{"federation.db", func() error { return full }}, {"scopes.json", func() error { return nil }}}
	registry := prometheus.NewRegistry()
	if err := RegisterKept(registry, files); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		fault         error
		status, value string
	}{{nil, "", "1"}, {errors.New("no space left on device"), "federation.db: no space left on device", "0"}, {nil, "", "1"}} {
		full = c.fault
		if got := KeptError(files); got != c.status {
			t.Errorf("status says %q, want %q", got, c.status)
		}
		want := "# HELP isthmus_state_kept 1 while the file of the state directory holds what is known, 0 while it cannot be written.\n" +
			"# TYPE isthmus_state_kept gauge\n" +
			"isthmus_state_kept{file=\"federation.db\"} " + c.value + "\nisthmus_state_kept{file=\"scopes.json\"} 1\n"
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
	}
}
