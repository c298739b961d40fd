package adsclient

import "time"

const (
	// maxSubscriptions bounds the destinations that are subscribed to. A gateway
	// refuses more.
	maxSubscriptions = 10_000

	// maxStateFile bounds the state on disk that is read back, in bytes.
	maxStateFile = 64 << 20

	// maxFaults bounds what is said of resources that cannot be used, in bytes: there
	// may be as many as a message holds.
	maxFaults = 1 << 10

	// saveDelay is how long a change waits for company before it is written: the
	// halves of new routes arrive a moment apart.
	saveDelay = 100 * time.Millisecond

	// saveInterval is the least time between two writes of the state on disk.
	saveInterval = time.Second
)
