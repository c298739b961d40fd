package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// lines reads the events of a file.
func lines(t *testing.T, path string) []line {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []line
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatalf("line %q: %v", s.Text(), err)
		}
		all = append(all, l)
	}
	return all
}

// running runs a stream in virtual time, and returns it and what ends it.
func running(t *testing.T, path string, served bool) (*Log, func()) {
	t.Helper()
	l, err := Open(path, served, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return l, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestADirectoryThatIsMissingIsMadeForItsOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := Open(filepath.Join(dir, "audit.log"), false, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestADecisionIsOneLineOfJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.json")
		l, end := running(t, path, false)
		l.Add(Event{Kind: Call, Decision: Refused, Who: "spiffe://mesh/cluster/east/ns/web/sa/shop", From: "10.0.0.7", What: "shop/orders", Why: "line\nbreak"})
		end()
		got := lines(t, path)
		if len(got) != 1 || got[0].Kind != Call || got[0].Why != "line\nbreak" || got[0].Time.IsZero() {
			t.Errorf("got %+v", got)
		}
	})
}

func TestRefusalsOfDifferentPathsAreTwoLinesAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.json")
		l, end := running(t, path, false)
		for i := range 1000 {
			l.Add(Event{Kind: Call, Decision: Refused, Who: "spiffe://mesh/cluster/east/ns/web/sa/shop", What: "shop/orders GET", Example: fmt.Sprint("/", i)})
			synctest.Wait()
			time.Sleep(50 * time.Millisecond)
		}
		end()
		got := lines(t, path)
		if len(got) != 2 || got[0].Example != "/0" || got[1].Again != 999 || got[1].Example != "/999" {
			t.Errorf("got %+v, want the first, and how often it came again with an example", got)
		}
	})
}

func TestAFloodOfDifferentRefusalsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.json")
		l, end := running(t, path, false)
		for i := range 3 * maxRepeating {
			l.Add(Event{Kind: Tunnel, Decision: Refused, From: fmt.Sprint(i)})
			synctest.Wait()
		}
		end()
		got := lines(t, path)
		last := got[len(got)-1]
		// As many as are free: half of them.
		if len(got) != maxRepeating/2+1 || last.What != "others" || last.Kind != Tunnel || last.Decision != Refused || last.Again != 3*maxRepeating-maxRepeating/2 {
			t.Errorf("%d lines, the last is %+v", len(got), last)
		}
	})
}

func TestAPeerThatInventsNamesHidesNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.json")
		l, end := running(t, path, false)
		for i := range 3 * maxRepeating {
			l.Add(Event{Kind: Registration, Decision: Refused, Who: "evil", What: fmt.Sprint("shop/", i)})
			synctest.Wait()
		}
		l.Add(Event{Kind: Call, Decision: Refused, Who: "mallory", What: "shop/orders GET"})
		l.Add(Event{Kind: Trust, Decision: Refused, What: "a bundle"})
		end()
		said := map[string]bool{}
		for _, line := range lines(t, path) {
			said[line.Who+" "+line.What] = true
		}
		for _, want := range []string{"mallory shop/orders GET", " a bundle", "evil others"} {
			if !said[want] {
				t.Errorf("there is no line %q", want)
			}
		}
	})
}

func TestTheFoldOfManyPeersThatInventNamesIsBounded(t *testing.T) {
	f := newFold(8, false)
	for who := range 100 {
		for what := range 20 {
			f.first(Event{Kind: Call, Decision: Refused, Who: fmt.Sprint(who), What: fmt.Sprint(what)})
		}
	}
	if len(f.seen) > 8 || len(f.held) > 8 || len(f.others) > 8+1 {
		t.Errorf("%d events, %d peers, %d others", len(f.seen), len(f.held), len(f.others))
	}
}

func TestEachPathOfGrantedCallsIsALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.json")
		l, end := running(t, path, true)
		for i := range 2 * maxRepeating {
			l.Add(Event{Kind: Call, Decision: Granted, What: "shop/orders GET", Example: fmt.Sprint("/", i)})
			synctest.Wait()
		}
		end()
		if n := len(lines(t, path)); n != 2*maxRepeating {
			t.Errorf("%d lines of %d calls", n, 2*maxRepeating)
		}
	})
}

func TestARefusalThatRepeatsItselfIsTwoLinesAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.json")
		l, end := running(t, path, false)
		e := Event{Kind: Call, Decision: Refused, What: "shop/orders"}
		for range 1000 {
			l.Add(e)
			synctest.Wait()
		}
		time.Sleep(repeats)
		end()
		got := lines(t, path)
		if len(got) != 2 || got[0].Again != 0 || got[1].Again != 999 {
			t.Errorf("got %+v, want the first and how often it came again", got)
		}
	})
}

func TestGrantedCallsAreWrittenByChoiceOnly(t *testing.T) {
	for _, served := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit.json")
			l, end := running(t, path, served)
			l.Add(Event{Kind: Call, Decision: Granted, What: "shop/orders"})
			l.Add(Event{Kind: Tunnel, Decision: Granted, What: "east"})
			end()
			if want := map[bool]int{false: 1, true: 2}[served]; len(lines(t, path)) != want {
				t.Errorf("served %v: %d lines, want %d", served, len(lines(t, path)), want)
			}
		})
	}
}

func TestWhatFindsTheQueueFullIsCountedInALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.json")
		l, err := Open(path, false, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for range maxQueued + 3 { // nobody writes yet
			l.Add(Event{Kind: Tunnel, Decision: Refused})
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Run(ctx); err != nil {
			t.Fatal(err)
		}
		got := lines(t, path)
		if last := got[len(got)-1]; last.Kind != Audit || last.Decision != Lost || !strings.HasPrefix(last.What, "3 ") {
			t.Errorf("last line %+v, want 3 lost events", last)
		}
	})
}

func TestAFileThatIsRenamedIsLeftForANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.json")
		l, end := running(t, path, false)
		l.Add(Event{Kind: Tunnel, Decision: Granted, What: "before"})
		synctest.Wait()
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * repeats)
		l.Add(Event{Kind: Tunnel, Decision: Granted, What: "after"})
		end()
		if old, now := lines(t, path+".1"), lines(t, path); len(old) != 1 || len(now) != 1 || now[0].What != "after" {
			t.Errorf("old %+v, new %+v", old, now)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
		}
	})
}

func TestALongTextIsCut(t *testing.T) {
	e := Event{What: strings.Repeat("ä", maxText)}.bounded()
	if len(e.What) > maxText+len("…") || strings.ContainsRune(e.What, '\uFFFD') {
		t.Errorf("%d bytes are left", len(e.What))
	}
}

func TestANilLogDiscards(t *testing.T) {
	l, err := Open("", true, nil)
	if err != nil || l != nil {
		t.Fatal(l, err)
	}
	l.Add(Event{Kind: Tunnel})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil || l.Served() {
		t.Error(err)
	}
}
