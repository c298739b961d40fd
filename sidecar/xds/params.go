package xds

import "time"

const (
	// answerLimit bounds dialling a gateway, the TLS handshake and its first answer
	// on a stream, together.
	answerLimit = 2500 * time.Millisecond

	// retryMin and retryMax bound the pause before a gateway (or, for ADS, the
	// whole list of them) is tried again; it doubles in between, with jitter.
	// The upper end is low because a gateway that comes back knows nobody: until
	// the sidecars have registered again their services look dead from there.
	retryMin = 100 * time.Millisecond
	retryMax = 2 * time.Second

	// stableAfter is how long a stream must have lived for its end to be a new
	// failure rather than the next one of a row.
	stableAfter = 10 * time.Second

	// connectionBuffer is the read and write buffer of a connection, in bytes.
	connectionBuffer = 4 << 10

	// maxMessage bounds one message from a gateway, in bytes.
	maxMessage = 16 << 20

	// maxSubscriptions bounds the destinations that are subscribed to. A gateway
	// refuses more.
	maxSubscriptions = 10_000

	// maxCacheFile bounds the state on disk that is read back, in bytes.
	maxCacheFile = 64 << 20

	// saveDelay is how long a change waits for company before it is written: the
	// halves of new routes arrive a moment apart.
	saveDelay = 100 * time.Millisecond

	// saveInterval is the least time between two writes of the state on disk.
	saveInterval = time.Second
)
