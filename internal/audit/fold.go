package audit

// fold keeps what repeats itself from being a line each time. It belongs to one
// goroutine.
type fold struct {
	// most bounds the different events that are told apart. Of these as many may be about one
	// peer as are free, so that none hides what others do behind names that it invents. What
	// is beyond is counted by kind, decision and peer, or written when written says so.
	most    int
	written bool

	seen   map[Event]*repeated // by [Event.key]
	held   map[string]int      // of seen, by Who
	others map[Event]int       // beyond most: nothing but Kind, Decision and, of most peers, Who
}

// repeated is how often an event came again, and what differed when it did so last.
type repeated struct {
	again   int
	example string
}

func newFold(most int, written bool) *fold {
	return &fold{most: most, written: written, seen: map[Event]*repeated{}, held: map[string]int{}, others: map[Event]int{}}
}

// first counts an event, and reports whether it is to be written at once.
func (f *fold) first(e Event) bool {
	key := e.key()
	if r := f.seen[key]; r != nil {
		r.again++
		r.example = e.Example
		return false
	}
	if f.written {
		if len(f.seen) >= f.most {
			return true
		}
	} else if f.held[e.Who] >= f.most-len(f.seen) {
		f.count(e)
		return false
	}
	f.seen[key] = &repeated{}
	f.held[e.Who]++
	return true
}

// count counts an event that is not told apart.
func (f *fold) count(e Event) {
	o := Event{Kind: e.Kind, Decision: e.Decision, Who: e.Who}
	if _, ok := f.others[o]; !ok && len(f.others) >= f.most {
		o.Who = ""
	}
	f.others[o]++
}

// end has write write what repeated itself, and begins anew.
func (f *fold) end(write func(e Event, again int)) {
	for e, r := range f.seen {
		if r.again > 0 {
			e.Example = r.example
			write(e, r.again)
		}
	}
	for e, n := range f.others {
		e.What, e.Why = "others", "too many different ones to write each"
		write(e, n)
	}
	clear(f.seen)
	clear(f.held)
	clear(f.others)
}
