package exchange

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/sidecar/upstream"
)

func TestAGatewaysWordsCannotForgeAField(t *testing.T) {
	for _, reason := range []string{"x\", isthmus-inbound; error=connection_refused", "a b", "", "é"} {
		r := noHost(&upstream.ConnectError{Err: &connect.Refusal{Status: 503, Type: reason}})
		if r.Reason != connect.DestinationUnavailable {
			t.Errorf("reason %q became %s", reason, r.Reason)
		}
	}
}

func TestKeepAliveSaysForHowLongAServerKeepsItsConnection(t *testing.T) {
	for field, want := range map[string]time.Duration{
		"": 0, "timeout=5": 5 * time.Second, "max=10, Timeout=2 ": 2 * time.Second, "timeout=0": 1, "timeout=x": 0, "timeout=99999999": 0, "timeout": 0,
	} {
		if got := keepAliveTimeout([]byte(field)); got != want {
			t.Errorf("%q: %v, want %v", field, got, want)
		}
	}
}
