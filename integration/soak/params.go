package main

import "time"

// The load of one caller, requests per second of each kind. Three callers make some
// hundred in all, of which a program answers most at once.
var rates = map[string]float64{get: 10, shared: 5, call: 5, watch: 0.5, post: 5, put: 4, upload: 2, stream: 0.5, slowly: 0.3, giveUp: 3, tcp: 1, lookup: 4}

const (
	maxUnderWay = 512              // requests of one caller; more is a failure, since they are ended after patience
	patience    = 10 * time.Second // without a byte, until a request counts as hanging

	idleLimit = 5 * time.Second // of a caller's connections

	reconnect = 100 * time.Millisecond // between two attempts of a gRPC client to connect

	slow         = 300 * time.Millisecond // what a POST takes
	streamLines  = 30
	streamPause  = 100 * time.Millisecond // between two lines
	slowSize     = 1 << 20                // bytes of an answer that is read slowly: beyond every window
	slowPause    = 2 * time.Second        // in which nothing of it is read
	longestWait  = 400 * time.Millisecond // until a request is given up
	maxCallsAge  = 5 * time.Second        // of a connection to a program of gRPC, which says GOAWAY then
	tcpFrames    = 10
	tcpPause     = 200 * time.Millisecond // between two frames
	maxFrame     = 16 << 10               // bytes
	maxBody      = 64 << 10               // bytes of a GET's answer and of a PUT
	uploadSize   = 1 << 20                // bytes; net/http drops the connection rather than read it
	programDrain = 8 * time.Second        // what a program takes to end what runs

	// A fault that passes lasts from shortest to longest. It is below patience: a
	// frozen program answers what it was asked before.
	shortest, longest = 2 * time.Second, 6 * time.Second
	// What was ended starts again after at most this.
	longestAbsence = 4 * time.Second
	// settleLimit is how long after a fault the mesh may take until every gateway
	// sees everybody again.
	settleLimit = 45 * time.Second
	// aftermath is how long a fault still excuses after the mesh has settled: until
	// what was sent before then has ended.
	aftermath = time.Second
	// longestPause is between two faults.
	longestPause = 2 * time.Second

	// A pulse that comes later than late says that the machine is too busy for a
	// verdict: three seconds of silence are taken for death. What follows from it is
	// excused for afterStarving.
	pulse         = 100 * time.Millisecond
	late          = 700 * time.Millisecond
	afterStarving = 6 * time.Second

	warmUp   = 20 * time.Second // of load, before the first sample
	coolDown = 70 * time.Second // of load without faults, before the last one: beyond the minute that idle connections are kept
)
