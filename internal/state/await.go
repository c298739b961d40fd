package state

import (
	"context"
	"math"
	"reflect"
	"time"
)

// Forever is longer than any process runs.
const Forever = time.Duration(math.MaxInt64)

// Await waits until one of past closes, and reports whether ctx lasted as long. A nil channel
// never closes.
func Await(ctx context.Context, past ...<-chan struct{}) bool { return AwaitFor(ctx, Forever, past...) }

// AwaitFor is Await that ends after d, too.
func AwaitFor(ctx context.Context, d time.Duration, past ...<-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	cases := make([]reflect.SelectCase, 0, 2+len(past))
	on := func(c any) {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)})
	}
	on(ctx.Done())
	on(t.C)
	for _, p := range past {
		on(p)
	}
	chosen, _, _ := reflect.Select(cases)
	return chosen != 0
}
