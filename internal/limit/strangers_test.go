package limit

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"
)

func at(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }

func port(t interface{ Fatal(...any) }, most int) *Strangers {
	l, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return l.Port("test", most)
}

// Len returns how many there are.
func (s *Strangers) Len() int {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

func TestStrangersYieldToWhoHasFewerOnly(t *testing.T) {
	s := port(t, 100)
	if s.Yield(at("10.0.0.1")) {
		t.Error("nobody yields")
	}
	cut := 0
	for range 3 {
		s.Meet(at("10.0.0.1"), func(error) { cut++ })
	}
	s.Meet(at("10.0.0.2"), func(error) { t.Error("who has fewest yields") })
	for i, ok := range []bool{true, false} { // 3 and 1, then 2 and 1
		if s.Yield(at("10.0.0.2")) != ok || cut != 1 || s.Yield(at("10.0.0.1")) {
			t.Errorf("%d: want %t: %d were cut", i, ok, cut)
		}
	}
	if !s.Yield(at("10.0.0.3")) || s.Yield(at("10.0.0.3")) || s.Len() != 2 {
		t.Errorf("two yield to none: %d are left", s.Len())
	}
}

func TestOfTooManyStrangersTheOldestOfTheLargestSourceGoes(t *testing.T) {
	s := port(t, 4)
	var cut []string
	var gone []*Stranger
	meet := func(name, ip string) *Stranger {
		w := s.Meet(at(ip), func(error) { cut = append(cut, name) })
		gone = append(gone, w)
		return w
	}
	meet("first", "10.0.0.1")
	meet("flood 1", "10.0.0.2")
	known := meet("flood 2", "10.0.0.2")
	meet("flood 3", "10.0.0.2")
	meet("late", "10.0.0.3")
	if want := []string{"flood 1"}; !slices.Equal(cut, want) {
		t.Fatalf("%v were cut, want %v", cut, want)
	}
	known.Known()
	known.Known()
	meet("fifth", "10.0.0.4") // there is room again
	meet("sixth", "10.0.0.5") // and of equal sources the oldest goes
	if want := []string{"flood 1", "first"}; !slices.Equal(cut, want) {
		t.Errorf("%v were cut, want %v", cut, want)
	}
	if n := s.Shed(); n != 2 || s.Len() != 4 {
		t.Errorf("Shed() = %d and %d are left, want 2 that are going and 4", n, s.Len())
	}
	gone[0].Known() // the two that were cut
	gone[1].Known()
	if n := s.Shed(); n != 2 || s.Len() != 2 {
		t.Errorf("Shed() = %d and %d are left, want 2 and 2", n, s.Len())
	}
}

func TestASourceIsAnIPv4AddressOrAnIPv6Network(t *testing.T) {
	same := func(a, b string) bool { return SourceOf(at(a)) == SourceOf(at(b)) }
	if same("10.0.0.1", "10.0.0.2") || !same("10.0.0.1", "::ffff:10.0.0.1") ||
		!same("fd00:1::1", "fd00:1::ffff:2") || same("fd00:1::1", "fd00:1:0:1::1") {
		t.Error("another division")
	}
	if got := SourceOf(&net.UDPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}).String(); got != "fe80::/64" {
		t.Error(got)
	}
	if SourceOf(&net.UnixAddr{Name: "x"}) != (Source{}) || SourceOf(nil) != (Source{}) {
		t.Error("what is no IP address has a source")
	}
}

func TestStrangersAreCountedAndNoMoreAreHeldThanMayBe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		most := rapid.IntRange(1, 6).Draw(rt, "most")
		s := port(rt, most)
		open := map[*Stranger]string{}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			if len(open) > 0 && rapid.Bool().Draw(rt, "end") {
				for w := range open {
					w.Known()
					delete(open, w)
					break
				}
			} else {
				held := map[string]int{}
				for _, from := range open {
					held[from]++
				}
				ip := fmt.Sprintf("10.0.0.%d", rapid.IntRange(1, 4).Draw(rt, "source"))
				w := s.Meet(at(ip), func(error) {})
				for old, from := range open {
					if old.crowd != nil {
						continue
					}
					if largest := slices.Max(slices.Collect(maps.Values(held))); held[from] != largest || len(open) < most {
						rt.Fatalf("one of a source with %d was cut, of %v", held[from], held)
					}
					old.Known()
					delete(open, old)
				}
				open[w] = ip
			}
			if s.Len() != len(open) || s.Len() > most || len(s.sources) != len(s.order) {
				rt.Fatalf("%d are counted in %d sources, %d are open, at most %d", s.Len(), len(s.sources), len(open), most)
			}
		}
	})
}

func TestNilStrangersBoundNothing(t *testing.T) {
	var s *Strangers
	s.Meet(at("10.0.0.1"), nil).Known()
	if s.Shed() != 0 || s.Len() != 0 {
		t.Error("there is one")
	}
}

func TestStrangersOfEachPortAreShown(t *testing.T) {
	reg := prometheus.NewRegistry()
	l, err := New(reg)
	if err != nil {
		t.Fatal(err)
	}
	s := l.Port("mesh", 1)
	first := s.Meet(at("10.0.0.1"), func(error) {})
	s.Meet(at("10.0.0.1"), func(error) {})
	first.Known()
	if testutil.ToFloat64(s.open) != 1 || testutil.ToFloat64(l.shed) != 1 {
		t.Error("other figures")
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	l.Shed()
	if s.Len() != 0 {
		t.Error("not shed")
	}
}

func TestThereIsAlwaysAPlaceForOneThatHoldsNone(t *testing.T) {
	s := NewShares[string](90, 8)
	n := 0
	for ; s.Take("hog"); n++ {
	}
	if n != 80 {
		t.Errorf("one that is alone holds %d of 90 places, want 80", n)
	}
	if !s.Take("other") {
		t.Error("nothing is left for another")
	}
	s.Release("other")
	for range n {
		s.Release("hog")
	}
	if places, holders := s.Used(); places != 0 || holders != 0 {
		t.Errorf("%d places of %d holders are left", places, holders)
	}
	s.SetTotal(0)
	if s.Take("hog") {
		t.Error("a place where there is none")
	}
}

func TestSeveralPlacesAreTakenAllOrNone(t *testing.T) {
	s := NewShares[string](91, 8)
	n := 0
	for ; s.TakeAll("hog", 2); n++ {
	}
	if n != 40 {
		t.Errorf("one that is alone holds %d times two of 91 places, want 40", n)
	}
	if !s.Take("hog") || s.Take("hog") {
		t.Errorf("it holds %d places, want the 81st as well and no other", s.Held("hog"))
	}
	s.Release("hog")
	for range n {
		s.ReleaseAll("hog", 2)
	}
	if places, holders := s.Used(); places != 0 || holders != 0 {
		t.Errorf("%d places of %d holders are left", places, holders)
	}
}

func TestWhoComesWaitsForThoseThatWereCutToBeGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := port(t, 1)
		first := s.Meet(at("10.0.0.1"), func(error) {})
		s.Meet(at("10.0.0.1"), func(error) {})
		var third sync.WaitGroup
		came := false
		third.Go(func() { s.Meet(at("10.0.0.1"), func(error) {}); came = true })
		synctest.Wait()
		if came {
			t.Error("more are held than may be")
		}
		first.Known()
		third.Wait()
	})
}
