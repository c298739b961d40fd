package register

import "time"

const (
	// maxRegistrations bounds the live registrations of one gateway. At about
	// 0.5 KiB each they are at most 50 MiB.
	maxRegistrations = 100_000

	// maxInstance bounds an instance name, in bytes: a host name fits.
	maxInstance = 253

	// maxWeight bounds a weight, so that their sum over all registrations stays
	// within what EDS can say (32 bits).
	maxWeight = 10_000

	// settleAfter is how long a gateway that has restarted waits for the sidecars
	// that it knew before. They try every 2 s at most (sidecar/xds), so this is
	// time for two tries.
	settleAfter = 4 * time.Second

	// knownFor is how long a registration that ended without being withdrawn
	// counts as one to wait for after a restart.
	knownFor = time.Minute

	// saveInterval is the least time between two writes of the state file.
	saveInterval = time.Second
)
