package xds

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
		errStreamEnded:                             true,
		errors.New("no answer"):                    true,
	} {
		if got := breaks(err); got != want {
			t.Errorf("%v: breaks is %t", err, got)
		}
	}
}

func TestThePauseDoublesToItsLimitWithJitter(t *testing.T) {
	var b backoff
	for i := range 40 {
		whole := min(retryMin<<min(i, 16), retryMax)
		if d := b.next(); d < whole/2 || d > whole {
			t.Errorf("pause %d is %s, want between %s and %s", i, d, whole/2, whole)
		}
	}
	b.reset()
	if d := b.next(); d > retryMin {
		t.Errorf("after a success the pause is %s", d)
	}
}
