package gatewaylink

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnOutageIsOneLineUntilItReadsDifferentlyAMinuteLaterOrTheStreamStoodAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused, frozen := errors.New("refused"), errors.New("frozen")
		var o outage
		for i, c := range []struct {
			after time.Duration
			err   error
			stood bool
			log   bool
		}{
			{0, refused, false, true},
			{time.Second, refused, false, false},
			{time.Second, frozen, false, false}, // too soon
			{time.Hour, refused, false, false},
			{time.Second, frozen, false, true},
			{time.Second, frozen, false, false},
			{time.Second, frozen, true, true},
			{time.Second, frozen, false, false},
		} {
			time.Sleep(c.after)
			if got := o.failed(c.err, c.stood); got != c.log {
				t.Errorf("failure %d is logged: %v", i, got)
			}
		}
	})
}
