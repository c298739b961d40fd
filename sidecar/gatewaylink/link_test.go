package gatewaylink

import (
	"errors"
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
