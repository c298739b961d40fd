package exchange

import (
	"testing"

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
