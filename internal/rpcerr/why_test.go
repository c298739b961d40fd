package rpcerr

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestAFailedCallIsSaidWithoutTheNoiseOfGRPC(t *testing.T) {
	connecting := func(text string) error {
		return status.Error(codes.Unavailable, `connection error: desc = "transport: `+text+`"`)
	}
	for want, err := range map[string]error{
		"write serves: [web]":                               status.Error(codes.PermissionDenied, "write serves: [web]"),
		"dial tcp 127.0.0.1:1: connect: connection refused": fmt.Errorf("stream: %w", connecting("Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused")),
		"no answer within 2.5s: frozen or overloaded?":      errors.New("no answer within 2.5s: frozen or overloaded?"),
		"it gave no reason (Unavailable)":                   status.Error(codes.Unavailable, ""),
		`expected a CA, but the peer is "x"`:                connecting(`authentication handshake failed: expected a CA, but the peer is \"x\"`),
	} {
		if got := Why(err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, err := range []error{
		connecting("authentication handshake failed: EOF"), connecting("error reading server preface: remote error: tls: bad certificate"),
		status.Error(codes.Unavailable, "write tcp 127.0.0.1:2->127.0.0.1:1: write: broken pipe"),
	} {
		if got := Why(err); !strings.HasPrefix(got, "it ended the connection without an answer: does it take our certificate") {
			t.Errorf("%v is said as %q", err, got)
		}
	}
}
