package gatewaylink

import "time"

const (
	// connectLimit is how long a stream waits for the connection to its gateway: then
	// another gateway is tried, if there is one.
	connectLimit = 2500 * time.Millisecond

	// queueLimit is how long the connection itself is waited for meanwhile, by streams
	// that follow: a gateway to which all sidecars come back at once shakes hands with
	// one after the other, and who hangs up loses its place.
	queueLimit = 30 * time.Second

	// answerLimit bounds the first answer on a stream of a connection that stands. One
	// that falls silent breaks long before, see internal/liveness.
	answerLimit = 10 * time.Second

	// endLimit is how long a gateway may take to end a stream on which we have nothing
	// more to say.
	endLimit = 2500 * time.Millisecond

	// minRetry and maxRetry bound the pause before a gateway (or, for ADS, the
	// whole list of them) is tried again; it doubles in between, with jitter.
	// The upper end is low because a gateway that comes back knows nobody: until
	// the sidecars have registered again their services look dead from there.
	minRetry = 100 * time.Millisecond
	maxRetry = 2 * time.Second

	// stableAfter is how long a stream must have lived for its end to be a new
	// failure rather than the next one of a row.
	stableAfter = 10 * time.Second

	// outageInterval is the least time between two lines about one outage.
	outageInterval = time.Minute

	// connectionBuffer is the read and write buffer of a connection, in bytes.
	connectionBuffer = 4 << 10

	// maxMessage bounds one message from a gateway, in bytes.
	maxMessage = 16 << 20
)
