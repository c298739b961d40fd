package audit

// fold keeps what repeats itself from being a line each time. It belongs to one
// goroutine.
type fold struct {
	// most bounds the different events that are told apart. What is beyond it is counted by
	// kind and decision, or written when written says so.
	most    int
	written bool

	seen   map[Event]*repeated // by [Event.key]
	others map[Event]int       // beyond most: nothing but Kind and Decision
}

// repeated is how often an event came again, and what differed when it did so last.
type repeated struct {
	again   int
	example string
}

func newFold(most int, written bool) *fold {
	return &fold{most: most, written: written, seen: map[Event]*repeated{}, others: map[Event]int{}}
}

// first counts an event, and reports whether it is to be written at once.
func (f *fold) first(e Event) bool {
	key := e.key()
	if r := f.seen[key]; r != nil {
		r.again++
		r.example = e.Example
		return false
	}
	if len(f.seen) >= f.most {
		if !f.written {
			f.others[Event{Kind: e.Kind, Decision: e.Decision}]++
		}
		return f.written
	}
	f.seen[key] = &repeated{}
	return true
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
	clear(f.others)
}
