package upstream

// Try remembers what one request has tried. The zero value is ready. It belongs
// to one request at a time and holds no resources.
type Try struct {
	tried    [maxAttempts]*Host // not asked again
	n        int                // of tried
	attempts int                // successful picks
	local    int                // of them local endpoints
	avoid    [maxAttempts]remoteName
	avoided  int  // of avoid
	fresh    bool // pooled connections are not wanted, or one broke and they are no longer trusted
}

// Fresh makes every connection a new one: what is relayed as it is must not meet
// the deadlines and leftovers of somebody's exchange.
func (t *Try) Fresh() { t.fresh = true }

// NextRound lets everybody be asked once more, after a pause that the caller
// has made because nobody was left. What the request has learned stays: which
// instances to avoid, and that pooled connections broke.
func (t *Try) NextRound() {
	clear(t.tried[:t.n])
	t.n, t.attempts, t.local = 0, 0, 0
}

// Attempts returns how many hosts have been picked, in this round.
func (t *Try) Attempts() int { return t.attempts }

func (t *Try) has(h *Host) bool {
	for _, x := range t.tried[:t.n] {
		if x == h {
			return true
		}
	}
	return false
}

func (t *Try) add(h *Host) {
	t.attempts++
	if !h.key.gateway {
		t.local++
	}
	t.tried[t.n] = h
	t.n++
}

// again lets h be picked once more: it was not to blame.
func (t *Try) again(h *Host) {
	for i, x := range t.tried[:t.n] {
		if x == h {
			t.n--
			t.tried[i] = t.tried[t.n]
			t.tried[t.n] = nil
			return
		}
	}
}

// avoidRemote excludes an instance of another cluster from the next paths.
func (t *Try) avoidRemote(name remoteName) {
	if t.avoided < len(t.avoid) {
		t.avoid[t.avoided] = name
		t.avoided++
	}
}
