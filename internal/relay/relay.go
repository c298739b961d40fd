package relay

import (
	"context"
	"errors"
	"time"
)

// ErrIdle is why Copy ends a path on which nothing moved for the idle timeout.
var ErrIdle = errors.New("nothing moved for the idle timeout")

// Stats are the bytes that arrived at either end.
type Stats struct {
	AToB, BToA int64
}

// Copy moves bytes between a and b until both directions have ended, then
// closes both. When one direction fails, when ctx ends, or when nothing moves
// for idle (0: no limit), both are aborted (see [Abort]) and the first cause is
// returned. Copy owns a and b from the call on and returns when no goroutine of
// its own touches them any more; read deadlines set before are the caller's to
// clear.
func Copy(ctx context.Context, a, b Conn, idle time.Duration) (Stats, error) {
	return CopyUntilQuiet(ctx, context.Background(), a, b, idle)
}

// CopyUntilQuiet is Copy for a path that may have to make room: once late ends,
// the path is closed, without an error, at the first moment at which b had the
// last word and nothing has moved for a while. For what asks at a and answers at
// b that is between two exchanges, when a peer expects its connection to be
// closed if ever.
func CopyUntilQuiet(ctx, late context.Context, a, b Conn, idle time.Duration) (stats Stats, err error) {
	p, done, watched := &Pair{}, make(chan struct{}), make(chan struct{})
	unhook := context.AfterFunc(late, func() {
		defer close(watched)
		p.closeWhenQuiet(done)
	})
	defer func() {
		close(done)
		if !unhook() {
			<-watched
		}
	}()
	defer context.AfterFunc(ctx, func() { p.abort(context.Cause(ctx)) })()
	if idle > 0 {
		defer watch(p, idle).stop()
	}
	over := make(chan struct{})
	p.Start(nil, a, b, idle, func(s Stats, why error) {
		stats, err = s, why
		close(over)
	})
	<-over
	return stats, err
}
