package gatewaylink

import (
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// outage says which failures of a stream that is tried again and again are worth a
// line in the log: the first since it stood, and later ones that read differently,
// one a minute at most. It belongs to the goroutine that tries.
type outage struct {
	failing bool
	last    string // what was logged as a warning
	logged  time.Time
}

// failed is told of a failure, and whether the stream stood before it. It returns at which
// level that is logged, if at all: that a gateway ends a stream which stood is what it does when it is
// restarted, and no warning unless it stays away.
func (o *outage) failed(err error, stood bool) (level slog.Level, log bool) {
	now, text := time.Now(), err.Error()
	if o.failing && !stood && (text == o.last || now.Sub(o.logged) < outageInterval) {
		return 0, false
	}
	o.failing, o.logged = true, now
	if code := status.Code(err); stood && (code == codes.Unavailable || code == codes.Canceled || errors.Is(err, ErrEnded)) {
		o.last = ""
		return slog.LevelInfo, true
	}
	o.last = text
	return slog.LevelWarn, true
}
