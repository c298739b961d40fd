package forward

import "time"

const (
	// maxHello bounds a TLS ClientHello, in bytes: one handshake message of the
	// largest record. Post-quantum key shares make it about 2 KiB.
	maxHello = 16 << 10

	// maxReplay bounds the payload that is kept for a second attempt, in bytes.
	// Before the first answer a TLS client sends its ClientHello and at most
	// some early data; when the bound is reached the client waits.
	maxReplay = 64 << 10

	// firstRead is the size in bytes of the buffer for the first bytes of a
	// connection: a CONNECT head and a ClientHello fit.
	firstRead = 4 << 10

	// headTimeout is how long a client may take for its head, its ClientHello,
	// or its first payload byte after the 200. Slow networks need a second or
	// two; a client that opens connections to hold them is gone after this.
	headTimeout = 10 * time.Second

	// setupTimeout is how long all attempts together may take.
	setupTimeout = 10 * time.Second

	// dialTimeout is how long the TCP connection to a local endpoint may take:
	// within a cluster that is one lost SYN (retransmitted after 1 s) at most.
	dialTimeout = 1500 * time.Millisecond

	// minHedge is the least time without an answer after which the next
	// candidate is tried beside the first; hedgeRTTs the same in round trips.
	// One is stream and dial, the others leave room for jitter.
	minHedge  = 200 * time.Millisecond
	hedgeRTTs = 3

	// lingerTimeout and lingerBytes bound how long and how much of a refused
	// client's payload is read away, so that closing does not reset the
	// connection before the refusal is read.
	lingerTimeout = time.Second
	lingerBytes   = 256 << 10

	// defaultPathsPerSource and defaultPaths bound the paths that one source and all
	// together hold open. One sidecar with 1,000 connections in flight is a busy one; a
	// path costs about 100 KiB and two file descriptors.
	defaultPathsPerSource = 1024
	defaultPaths          = 16384

	// pathPart is the part of the descriptors that paths may be: each has two of them at
	// most, so that a third is left to sidecars' connections and strangers.
	pathPart = 3

	// strangerPart and maxStrangers bound the connections to the mesh port whose head is
	// not read yet: at 12 KiB each they are 12 MiB at most.
	strangerPart = 16
	maxStrangers = 1 << 10

	// shareReserve is the part of all paths that is kept for this cluster's callers, and
	// as much for those of other clusters.
	shareReserve = 4

	// youngFor is how long a path counts as young: who ends its TLS has cut whoever
	// proves nothing by then, 10 s after its ClientHello.
	youngFor = 15 * time.Second

	// maxYielding bounds the paths that may end for others at a time.
	maxYielding = 64

	// maxRejecting bounds how many connections beyond the bounds are told so at
	// a time; further ones are reset.
	maxRejecting = 64

	// defaultIdle ends paths on which nothing moves: long enough for idle
	// database connections, short enough that what a dead peer left goes away.
	defaultIdle = time.Hour
)
