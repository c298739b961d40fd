package xds

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestAConnectionOnWhichNothingIsHeardBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := vigilant{near}
		defer c.Close()
		go func() {
			for range 3 {
				time.Sleep(silenceLimit - time.Millisecond)
				_, _ = far.Write([]byte{1})
			}
		}()
		b := make([]byte, 1)
		began := time.Now()
		for range 3 {
			if _, err := c.Read(b); err != nil {
				t.Fatalf("broke after %s although it was alive: %v", time.Since(began), err)
			}
		}
		began = time.Now()
		if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read ended with %v", err)
		}
		if got := time.Since(began); got != silenceLimit {
			t.Errorf("broke after %s, want %s", got, silenceLimit)
		}
	})
}

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
