package main

import (
	"strings"
	"time"
)

const (
	connections       = 50   // of the load with HTTP/1.1, each with one request in flight
	streamConnections = 10   // of the load with HTTP/2
	streamsEach       = 10   // in flight on each of them
	bodySize          = 1024 // bytes of every answer
	otherRules        = 5000 // in the network namespace of a contender that says so: as many service ports as a large Kubernetes cluster has

	warmup       = time.Second            // of load before the first counted round: pools fill, Go's heap finds its size
	startLimit   = 30 * time.Second       // for a contender to answer its first request; a mesh of two gateways needs about two
	loneShare    = 4                      // part of a round's length that the load of lone connections before it takes
	resolveLimit = 500 * time.Millisecond // for a name; what was asked before the sidecar was there is lost
	roundGrace   = 10 * time.Second       // beyond its load, for a round to end
	loadTimeout  = 5 * time.Second        // an answer that takes longer is an error
	cleanLimit   = 30 * time.Second       // for removing what captures
	idleSettle   = 5 * time.Second        // from the last request on idle connections until memory is read
	idleLimit    = 3 * time.Minute        // for opening them, one after the other
	pollEvery    = 50 * time.Millisecond
	pollTimeout  = 5 * time.Second // of one request while waiting for the first answer

	// busyElsewhere is how much of a core other programs may use in a round
	// that counts.
	busyElsewhere = 0.25
)

// idleConnections are how many connections there are when memory is read.
var idleConnections = [2]int{1000, 10000}

// smokeIdle is how many where nothing is measured.
const smokeIdle = 50

// body is that of every answer.
var body = strings.Repeat("isthmus ", bodySize/8)
