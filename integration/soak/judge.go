package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// journal is everything that has happened. Safe for concurrent use.
type journal struct {
	alert func(string) // of what is wrong at first sight

	mu      sync.Mutex
	records []record // in the order in which they came
	faults  []*fault
}

func (j *journal) took(r record) {
	j.mu.Lock()
	j.records = append(j.records, r)
	j.mu.Unlock()
	if r.Outcome == wrong || r.Outcome == absent {
		j.alert(r.String())
	}
}

func (j *journal) began(f *fault) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults = append(j.faults, f)
}

// failure is what must not happen.
type failure struct {
	at   time.Time
	what string
}

// verdict is what the judge finds in a journal.
type verdict struct {
	failures []failure
	count    map[string]map[string]int // of ends, by kind and outcome
	told     map[string]int            // excused errors, by kind of request
	toldOf   map[string]int            // by kind of fault
	repeated map[string]int            // requests executed twice that may be, by kind
	gaps     map[string]map[string]time.Duration
	settle   map[string]time.Duration // the longest until the mesh had settled
	happened map[string]int           // faults by kind
}

// excuses reports whether a caller may be told what r says because of f.
func (f *fault) excuses(r record) bool {
	if r.End.Before(f.begin) || !f.until.IsZero() && r.Begin.After(f.until.Add(aftermath)) {
		return false
	}
	switch f.excuse {
	case starved:
		return r.Outcome != wrong && r.Outcome != absent
	case own:
		return r.Who == f.target && r.Outcome != wrong
	case inFlight:
		return r.Outcome == failed && !idempotent(r.Kind) || r.Outcome == cut
	case program:
		return r.Outcome == failed && !idempotent(r.Kind) || r.Outcome == cut || r.Outcome == eof
	}
	return false
}

// judge looks at everything, when no more comes.
func (j *journal) judge() verdict {
	v := verdict{
		count: map[string]map[string]int{}, told: map[string]int{}, toldOf: map[string]int{}, repeated: map[string]int{},
		gaps: map[string]map[string]time.Duration{}, settle: map[string]time.Duration{}, happened: map[string]int{},
	}
	executed := map[string][]record{}
	for _, r := range j.records {
		if r.Did == didExecute {
			executed[r.ID] = append(executed[r.ID], r)
		}
	}
	for _, r := range j.records {
		if r.Did != didEnd {
			continue
		}
		if v.count[r.Kind] == nil {
			v.count[r.Kind] = map[string]int{}
		}
		v.count[r.Kind][r.Outcome]++
		if r.Outcome == ok {
			if r.Kind != lookup && r.Kind != giveUp && len(executed[r.ID]) == 0 {
				v.failures = append(v.failures, failure{r.End, "answered and executed by nobody: " + r.String()})
			}
			continue
		}
		i := slices.IndexFunc(j.faults, func(f *fault) bool { return f.excuses(r) })
		if i < 0 {
			v.failures = append(v.failures, failure{r.End, r.String()})
			continue
		}
		v.told[r.Kind]++
		v.toldOf[j.faults[i].kind]++
	}
	for id, times := range executed {
		most := 1
		if idempotent(times[0].Kind) {
			most = 2
		}
		if n := len(times); n > most {
			v.failures = append(v.failures, failure{times[n-1].Begin, fmt.Sprintf("executed %d times: %s %s: %s", n, times[0].Kind, id, whoAndWhen(times))})
		} else if n > 1 {
			v.repeated[times[0].Kind]++
		}
	}
	v.judgeFaults(j)
	slices.SortFunc(v.failures, func(a, b failure) int { return a.at.Compare(b.at) })
	return v
}

func whoAndWhen(times []record) (s string) {
	for _, r := range times {
		s += fmt.Sprintf("%s at %s, ", r.Who, r.Begin.Format(stamp))
	}
	return s
}

// judgeFaults takes what each fault cost.
func (v *verdict) judgeFaults(j *journal) {
	type flow struct{ who, kind string }
	good := map[flow][]time.Time{}
	for _, r := range j.records {
		if r.Did == didEnd && r.Outcome == ok {
			good[flow{r.Who, r.Kind}] = append(good[flow{r.Who, r.Kind}], r.End)
		}
	}
	for _, times := range good {
		slices.SortFunc(times, time.Time.Compare)
	}
	for _, f := range j.faults {
		v.happened[f.kind]++
		if f.err != nil {
			v.failures = append(v.failures, failure{f.until, fmt.Sprintf("%s: %v", f, f.err)})
		}
		v.settle[f.kind] = max(v.settle[f.kind], f.until.Sub(f.healed))
		if v.gaps[f.kind] == nil {
			v.gaps[f.kind] = map[string]time.Duration{}
		}
		for _, flow := range slices.Collect(maps.Keys(good)) {
			if f.excuse == own && flow.who != f.target {
				continue // it costs its caller, as the table shows
			}
			v.gaps[f.kind][flow.kind] = max(v.gaps[f.kind][flow.kind], gap(good[flow], f.begin, f.until))
		}
	}
}

// gap is the longest time without a success that touches what is between begin and end.
func gap(successes []time.Time, begin, end time.Time) (longest time.Duration) {
	i, _ := slices.BinarySearchFunc(successes, begin, time.Time.Compare)
	for i = max(i, 1); i < len(successes) && successes[i-1].Before(end); i++ {
		longest = max(longest, successes[i].Sub(successes[i-1]))
	}
	return longest
}

// stamp is how times are printed, as in the processes' logs.
const stamp = "15:04:05.000"

// around is what happened within d of a moment, faults and what did not end well.
func (j *journal) around(at time.Time, d time.Duration) (lines []string) {
	type line struct {
		at   time.Time
		text string
	}
	var all []line
	for _, f := range j.faults {
		for _, e := range []line{{f.begin, f.String() + " begins"}, {f.healed, f.String() + " is mended"}, {f.until, "the mesh has settled"}} {
			if e.at.Sub(at).Abs() < d || f.begin.Before(at) && f.until.After(at) {
				all = append(all, e)
			}
		}
	}
	const most = 40
	for _, r := range j.records {
		if r.Did == didEnd && r.Outcome != ok && r.End.Sub(at).Abs() < d && len(all) < most {
			all = append(all, line{r.End, r.String()})
		}
	}
	slices.SortStableFunc(all, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range all {
		lines = append(lines, l.at.Format(stamp)+" "+l.text)
	}
	return lines
}

// What a process may hold more at the end than after the warm-up, at the same load:
// a part of what it held then, and something on top for what is small and uneven. A
// leak of one per request, fault or second is far beyond it in half an hour.
var growth = struct {
	rss, descriptors, goroutines, streams bound
}{
	rss:         bound{1.5, 24 << 10},
	descriptors: bound{1.3, 24},
	goroutines:  bound{1.3, 40},
	streams:     bound{1.3, 40},
}

type bound struct {
	times float64
	plus  int
}

func (b bound) allows(before, after int) bool {
	return float64(after) <= b.times*float64(before)+float64(b.plus)
}

// grown says what a process holds too much of.
func grown(before, after sample) (what []string) {
	for _, g := range []struct {
		name          string
		bound         bound
		before, after int
	}{
		{"KiB of memory", growth.rss, before.rss, after.rss},
		{"descriptors", growth.descriptors, before.descriptors, after.descriptors},
		{"goroutines", growth.goroutines, before.goroutines, after.goroutines},
		{"streams", growth.streams, before.streams, after.streams},
	} {
		if !g.bound.allows(g.before, g.after) {
			what = append(what, fmt.Sprintf("%d %s have become %d", g.before, g.name, g.after))
		}
	}
	return what
}
