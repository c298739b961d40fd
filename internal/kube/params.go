package kube

import "time"

const (
	// callTimeout is how long one read or write may take. A watch is none.
	callTimeout = 10 * time.Second
	// minBackoff and maxBackoff are the pauses between attempts to follow a kind: an API
	// server that comes back is followed within the longer one and half of that.
	minBackoff = 500 * time.Millisecond
	maxBackoff = 8 * time.Second
	// callsPerSecond and callBurst bound what one process asks of an API server, watches
	// included.
	callsPerSecond = 50
	callBurst      = 100

	// keepFirst is the pause before what is followed is first written down, and keepEvery that between
	// two writes, when it has changed; what has
	// not is written again after keepAnyway, for its time. What is older than keptFor is
	// not used: policies may have changed since. maxKept bounds the file, in bytes: 20,000 pods with
	// their services are 20 MB.
	keepFirst  = 2 * time.Second
	keepEvery  = time.Minute
	keepAnyway = time.Hour
	keptFor    = 24 * time.Hour
	maxKept    = 64 << 20

	maxEvents    = 256       // Events that wait to be written; more are dropped
	maxRecorded  = 4096      // Events that are remembered so that they are not repeated
	repeatEvents = time.Hour // the same Event is written once in this time

	leaseFor     = 15 * time.Second // how long a lease that is not renewed is still held
	leaseRenewal = 5 * time.Second  // between two renewals, or two looks at who holds it
	leaseGrace   = 10 * time.Second // a holder who could not renew for so long holds it no more: less than leaseFor
)
