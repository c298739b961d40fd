package limit

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPlacesAreBoundedInAllAndForEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPlaces[string](8, 2)
		soon := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			return ctx
		}
		var taken []func()
		take := func(who string) bool {
			giveBack, ok := p.Take(soon(), who)
			if ok {
				taken = append(taken, giveBack)
			}
			return ok
		}
		for range 2 {
			if !take("a") {
				t.Fatal("one does not get its share")
			}
		}
		if take("a") {
			t.Error("one has more than its share")
		}
		if !take("b") {
			t.Error("one holds up another")
		}
		first := taken[0]
		taken = taken[1:]
		go func() {
			time.Sleep(time.Second / 2)
			first()
		}()
		begun := time.Now()
		giveBack, ok := p.Take(soon(), "a")
		if !ok || time.Since(begun) != time.Second/2 {
			t.Errorf("who waits has its turn: %v, after %v", ok, time.Since(begun))
		}
		taken = append(taken, giveBack)
		for _, who := range []string{"c", "c", "d", "d", "e"} {
			take(who)
		}
		if take("f") {
			t.Error("there are more places than there are")
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, ok := p.Take(gone, "f"); ok {
			t.Error("who has gone has a place")
		}
		for _, giveBack := range taken {
			giveBack()
		}
		if len(p.all) != 0 || len(p.of) != 0 {
			t.Errorf("%d places of %d are left", len(p.all), len(p.of))
		}
	})
}
