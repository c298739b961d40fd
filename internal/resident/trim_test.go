package resident

import (
	"context"
	"log/slog"
	"runtime/metrics"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryIsGivenBackWhenTheProcessIsCalmAndHasUsedSome(t *testing.T) {
	const mib = 1 << 20
	looks := []struct {
		busy            bool // since the last look
		allocated, live uint64
		due             bool
	}{
		{true, 5 * mib, 2 * mib, false},
		{false, 5 * mib, 2 * mib, true}, // the start is over
		{false, 12 * mib, 2 * mib, false},
		{true, 90 * mib, 2 * mib, false}, // a burst
		{false, 91 * mib, 60 * mib, true},
		{false, 120 * mib, 60 * mib, false}, // less than half of what is live
		{false, 121 * mib, 60 * mib, true},
		{false, 128 * mib, 2 * mib, false},
		{false, 129 * mib, 2 * mib, true},
	}
	var tr trimmer
	var cpu time.Duration
	for i, l := range looks {
		if cpu += calm - 1; l.busy {
			cpu++
		}
		if got := tr.due(used{cpu, l.allocated, l.live}); got != l.due {
			t.Errorf("look %d: %v, want %v", i, got, l.due)
		}
	}
}

func TestACalmProcessKeepsNoPagesOfABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var trimming sync.WaitGroup
		trimming.Go(func() { Trim(ctx, slog.New(slog.DiscardHandler)) })
		var burst [][]byte
		for range 64 {
			burst = append(burst, slices.Repeat([]byte{1}, 1<<20))
		}
		before := unreleased()
		clear(burst)
		time.Sleep(10 * look) // virtual, so that it is calm
		synctest.Wait()
		if after := unreleased(); after+32<<20 > before {
			t.Errorf("%d MiB are held, %d in the burst of 64", after>>20, before>>20)
		}
		stop()
		trimming.Wait()
	})
}

// unreleased returns how many bytes this process holds of the kernel's.
func unreleased() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}
