package gatewaylink

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
			if level, got := o.failed(c.err, c.stood); got != c.log || got && level != slog.LevelWarn {
				t.Errorf("failure %d is logged: %v, as %v", i, got, level)
			}
		}
	})
}

func TestAGatewayThatIsRestartedIsNoWarningAndOneThatStaysAwayIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := status.Error(codes.Unavailable, "EOF")
		var o outage
		for i, c := range []struct {
			after time.Duration
			stood bool
			level slog.Level
			log   bool
		}{
			{0, true, slog.LevelInfo, true},
			{time.Second, false, 0, false},
			{time.Second, true, slog.LevelInfo, true}, // it was back
			{outageInterval - 1, false, 0, false},
			{1, false, slog.LevelWarn, true},
			{time.Hour, false, 0, false},
		} {
			time.Sleep(c.after)
			if level, log := o.failed(away, c.stood); level != c.level || log != c.log {
				t.Errorf("failure %d: %v, %v", i, level, log)
			}
		}
	})
}
