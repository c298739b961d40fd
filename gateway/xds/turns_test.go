package xds

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestResponsesAreWrittenAFewAtATimeOldestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		var mu sync.Mutex
		writing, most := 0, 0
		var order []int
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				if err := turns.send(t.Context(), func() error {
					mu.Lock()
					writing++
					most = max(most, writing)
					order = append(order, i)
					mu.Unlock()
					time.Sleep(10 * time.Millisecond)
					mu.Lock()
					writing--
					mu.Unlock()
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if most != maxSending {
			t.Errorf("%d responses were written at a time, want %d", most, maxSending)
		}
		for i, n := range order {
			if n/maxSending != i/maxSending {
				t.Fatalf("the response of stream %d was number %d", n, i)
			}
		}
	})
}

func TestWhoDoesNotReadKeepsNobodyWaitingForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns()
		ctx, cancel := context.WithCancel(t.Context())
		var stalled sync.WaitGroup
		for range 2 * maxSending {
			stalled.Go(func() { _ = turns.send(ctx, func() error { <-ctx.Done(); return ctx.Err() }) })
			synctest.Wait()
		}
		began := time.Now()
		if err := turns.send(t.Context(), func() error { return nil }); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > 2*maxTurn {
			t.Errorf("a response waited for %v", d)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		for range maxSending { // all turns are taken
			turns <- struct{}{}
		}
		if err := turns.send(gone, func() error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("a stream that has ended: %v", err)
		}
		for range maxSending {
			<-turns
		}
		cancel()
		stalled.Wait()
		if len(turns) != 0 {
			t.Errorf("%d turns are held by nobody", len(turns))
		}
	})
}
