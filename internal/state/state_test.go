package state

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAStoreHoldsTheZeroValueUntilItIsSet(t *testing.T) {
	var s Store[int]
	if got := s.Load(); got != 0 {
		t.Errorf("Load() = %d, want 0", got)
	}
	got, past := s.Snapshot()
	if got != 0 || isClosed(past) {
		t.Errorf("Snapshot() = %d, past %v; want 0 that is current", got, isClosed(past))
	}
}

func TestASnapshotIsPastOnceAnotherValueIsSet(t *testing.T) {
	var s Store[string]
	_, first := s.Snapshot()
	s.Set("a")
	value, second := s.Snapshot()
	if value != "a" || !isClosed(first) || isClosed(second) {
		t.Errorf("after Set: %q, first past %v, second past %v", value, isClosed(first), isClosed(second))
	}
	s.Set("b")
	if s.Load() != "b" || !isClosed(second) {
		t.Errorf("after the second Set: %q, past %v", s.Load(), isClosed(second))
	}
}

func TestNoReaderMissesAValue(t *testing.T) {
	var s Store[int]
	const last = 1000
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for seen := 0; seen < last; {
				value, past := s.Snapshot()
				if value < seen {
					t.Errorf("read %d after %d", value, seen)
				}
				if seen = value; seen < last {
					<-past
				}
			}
		})
	}
	for i := range last {
		s.Set(i + 1)
	}
	readers.Wait()
}

func TestLoadAllocatesNothing(t *testing.T) {
	var s Store[[]int]
	s.Set([]int{1})
	if n := testing.AllocsPerRun(100, func() { _ = s.Load() }); n != 0 {
		t.Errorf("Load allocates %v times", n)
	}
}

func TestNotificationsBeforeTheLookAreOne(t *testing.T) {
	n := NewNotify()
	n.Notify()
	n.Notify()
	<-n.C()
	select {
	case <-n.C():
		t.Error("two notifications")
	default:
	}
}

func TestADelayDoublesUpToItsMaximumWithJitterOfAHalf(t *testing.T) {
	lowest := func(int64) int64 { return 0 }
	highest := func(n int64) int64 { return n - 1 }
	for failures, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		want *= time.Second
		if got := Delay(time.Second, 30*time.Second, failures, highest); got != want {
			t.Errorf("after %d failures at most %v, want %v", failures, got, want)
		}
		if got := Delay(time.Second, 30*time.Second, failures, lowest); got != want/2 {
			t.Errorf("after %d failures at least %v, want %v", failures, got, want/2)
		}
	}
	for _, failures := range []int{-1, 31, 63, 64, 1 << 40} {
		if got := Delay(time.Second, 30*time.Second, failures, rand.Int64N); got < time.Second/2 || got > 30*time.Second {
			t.Errorf("after %d failures %v", failures, got)
		}
	}
}

func TestABackoffStartsAnewAfterASuccess(t *testing.T) {
	b := Backoff{Min: time.Second, Max: time.Minute}
	for range 5 {
		b.Next()
	}
	if d := b.Next(); d < 16*time.Second {
		t.Errorf("the pause after five others is %v", d)
	}
	b.Reset()
	if d := b.Next(); d > time.Second {
		t.Errorf("the pause after Reset is %v", d)
	}
}

func TestChangesInQuickSuccessionAreOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writes := 0
		s := NewSaver(SaverConfig{What: "x", Delay: time.Second, Interval: 10 * time.Second, Write: func() error { writes++; return nil }})
		stop := run(t, s)
		for range 5 {
			s.Changed()
			time.Sleep(100 * time.Millisecond)
		}
		pass(time.Second)
		if writes != 1 {
			t.Errorf("%d writes, want 1", writes)
		}
		s.Changed() // within the interval
		pass(5 * time.Second)
		if writes != 1 {
			t.Errorf("%d writes within the interval, want 1", writes)
		}
		stop() // the last change is not lost
		if writes != 2 {
			t.Errorf("%d writes at the end, want 2", writes)
		}
	})
}

func TestWhatCouldNotBeWrittenIsWrittenLaterAndLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		full.Store(true)
		var log lockedLog
		s := NewSaver(SaverConfig{What: "what is known", Interval: time.Second, Log: slog.New(slog.NewTextHandler(&log, nil)), Write: func() error {
			if full.Load() {
				return errors.New("no space left on device")
			}
			return nil
		}})
		defer run(t, s)()
		s.Changed()
		pass(time.Minute)
		if s.Err() == nil || strings.Count(log.String(), "no space left") != 1 {
			t.Errorf("Err() = %v after a minute with a full disk; log:\n%s", s.Err(), log.String())
		}
		full.Store(false) // and nothing changes any more
		pass(2 * time.Second)
		if s.Err() != nil || !strings.Contains(log.String(), "kept on disk again") {
			t.Errorf("Err() = %v after there was room again; log:\n%s", s.Err(), log.String())
		}
	})
}

// run runs s until the returned function is called, which waits for its end.
func run(t *testing.T, s *Saver) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { s.Run(ctx) })
	return func() { cancel(); done.Wait() }
}

// lockedLog is what was logged.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// pass lets virtual time pass and everybody do what is due.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestAStoreSparesItsReadersWhatSaysTheSame(t *testing.T) {
	var s Store[[]string]
	if !s.SetIfChanged([]string{}) { // empty is not unknown
		t.Error("the first value is not set")
	}
	_, past := s.Snapshot()
	if s.SetIfChanged([]string{}) || !s.SetIfChanged([]string{"a"}) {
		t.Error("an equal value is set, or another one is not")
	}
	select {
	case <-past:
	default:
		t.Error("the value before is not past")
	}
	if got := s.Load(); len(got) != 1 {
		t.Error(got)
	}
}

func TestAwaitEndsWithTheFirstOfWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a, b Store[int]
		_, aPast := a.Snapshot()
		_, bPast := b.Snapshot()
		time.AfterFunc(time.Second, func() { b.Set(1) })
		began := time.Now()
		if !Await(t.Context(), nil, aPast, bPast) || time.Since(began) != time.Second {
			t.Errorf("something is past after %v", time.Since(began))
		}
		if !AwaitFor(t.Context(), time.Minute, aPast) || time.Since(began) != time.Minute+time.Second {
			t.Errorf("it waits until %v", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if Await(ctx, aPast) {
			t.Error("it goes on though its context has ended")
		}
	})
}
