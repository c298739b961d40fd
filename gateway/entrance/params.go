package entrance

import "time"

const (
	// setupTimeout is how long it may take until the TLS of a path stands: all attempts
	// of the path (10 s) end before.
	setupTimeout = 12 * time.Second

	// idle ends a call on which nothing moves, as it does for every path.
	idle = time.Hour

	// MaxPorts bounds the ports that are listened on at a time: each costs a descriptor or
	// two and a goroutine.
	MaxPorts = 8192

	// retryBind is the wait before a port that could not be bound is tried again.
	retryBind = 2 * time.Second

	// refusalsEvery is the least time between two log lines about refused calls of a service.
	refusalsEvery = time.Minute
)
