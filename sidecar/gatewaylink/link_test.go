package gatewaylink

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestOnlyARefusalOfOneStreamLeavesTheConnectionInUse(t *testing.T) {
	for err, want := range map[error]bool{
		nil:                                      false,
		status.Error(codes.PermissionDenied, ""): false,
		status.Error(codes.FailedPrecondition, ""): false,
		status.Error(codes.Unavailable, ""):        true,
		ErrEnded:                                   true,
		errors.New("no answer"):                    true,
	} {
		if got := breaks(err); got != want {
			t.Errorf("%v: breaks is %t", err, got)
		}
	}
}

func TestTheEndOfAStreamIsSaidWithoutTheNoiseOfGRPC(t *testing.T) {
	dialled := status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`)
	for want, err := range map[string]error{
		"write serves: [web]":                               status.Error(codes.PermissionDenied, "write serves: [web]"),
		"dial tcp 127.0.0.1:1: connect: connection refused": fmt.Errorf("stream: %w", dialled),
		"no answer within 2.5s: frozen or overloaded?":      errors.New("no answer within 2.5s: frozen or overloaded?"),
		"rpc error: code = Unavailable desc = ":             status.Error(codes.Unavailable, ""),
	} {
		if got := Why(err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
