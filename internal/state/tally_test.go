package state

import (
	"testing"
	"time"
)

func TestWhatIsCountedIsSaidOnceAMinute(t *testing.T) {
	var m Tally
	now := time.Unix(1, 0)
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {1, 0}, {time.Minute - 2, 0}, {1, 3}, {1, 0}, {time.Minute, 2}} {
		now = now.Add(c.after)
		if got := m.Add(now, time.Minute); got != c.want {
			t.Errorf("%v after the start: %d, want %d", now.Sub(time.Unix(1, 0)), got, c.want)
		}
	}
}
