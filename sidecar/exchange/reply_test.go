package exchange

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/sidecar/http2"
	"github.com/isthmus-mesh/isthmus/sidecar/streams"
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

func TestAResetOfTheProgramIsSaidToBeOne(t *testing.T) {
	lost := fmt.Errorf("answer of 10.0.0.1:80: %w", &streams.ResetError{Code: http2.InternalError, Remote: true})
	if r := terminated(lost); r.Status != 502 || !strings.Contains(r.Detail, "reset the stream") || !strings.Contains(r.Detail, "INTERNAL_ERROR") {
		t.Errorf("a reset is told as %+v", r)
	}
	if r := terminated(io.EOF); !strings.Contains(r.Detail, "did the process there end?") {
		t.Errorf("an end is told as %+v", r)
	}
}
