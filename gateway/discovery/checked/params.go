package checked

import "time"

const (
	// maxProbes is how many checks run at once. With checks that all time out
	// after 1 s it still serves a hundred dead endpoints a second.
	maxProbes = 128
	// settle collects results that come together, such as those of a whole rack
	// dying, into one new set.
	settle = 10 * time.Millisecond
	// patience is how long a set with new endpoints waits for their first
	// checks; what has not answered by then is unready. It is longer than the
	// default timeout of one check.
	patience = 2 * time.Second
)
