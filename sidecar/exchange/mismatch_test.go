package exchange

import (
	"testing"
	"time"
)

func TestAnotherProtocolIsSaidOnceAMinute(t *testing.T) {
	var m mismatch
	now := time.Unix(1, 0)
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {1, 0}, {time.Minute - 2, 0}, {1, 3}, {1, 0}, {time.Minute, 2}} {
		now = now.Add(c.after)
		if got := m.add(now); got != c.want {
			t.Errorf("%v after the start: %d, want %d", now.Sub(time.Unix(1, 0)), got, c.want)
		}
	}
}
