package exchange

import (
	"testing"
	"time"
)

func TestTheDateOfASecondIsWrittenOnce(t *testing.T) {
	var d dateText
	now := time.Date(2026, 11, 26, 14, 0, 0, 0, time.UTC)
	for second, want := range []string{"Thu, 26 Nov 2026 14:00:00 GMT", "Thu, 26 Nov 2026 14:00:01 GMT"} {
		at := now.Add(time.Duration(second)*time.Second + 999*time.Millisecond)
		if got := d.at(at); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if n := testing.AllocsPerRun(10, func() { d.at(at) }); n != 0 {
			t.Errorf("the rest of the second costs %v allocations", n)
		}
	}
}
