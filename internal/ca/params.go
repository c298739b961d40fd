package ca

import "time"

const (
	// maxRequest bounds one call, in bytes: a CSR with a key of RSA 8192 is 4 KiB.
	maxRequest = 32 << 10
	// maxCSR bounds the PEM of a certificate request, in bytes.
	maxCSR = 16 << 10
	// maxHeaders bounds the metadata of a call, in bytes: a token and what a client adds.
	maxHeaders = 16 << 10

	// minRSABits and maxRSABits bound an RSA key. Less can be broken; checking more
	// costs its owner nothing, and everybody who meets it a lot.
	minRSABits = 2048
	maxRSABits = 4096

	// connectionPart and maxConnections bound the connections, a part of the descriptors;
	// strangerPart and maxStrangers those whose handshake is not done.
	connectionPart = 4
	maxConnections = 16 << 10
	strangerPart   = 8
	maxStrangers   = 4 << 10

	// prefaceTimeout bounds the HTTP/2 preface, once hands are shaken.
	prefaceTimeout = 10 * time.Second
	// idleTimeout closes a connection that asks for nothing: clients come back in hours.
	idleTimeout = 30 * time.Second
	// maxAge ends a connection whatever it does, after maxAgeGrace for running calls.
	maxAge      = time.Minute
	maxAgeGrace = 10 * time.Second
	// maxStreams bounds the calls at a time of one connection.
	maxStreams = 16

	// sourceRate and sourceBurst bound the calls of one source address (a /64 of IPv6),
	// per second and at once: a host with 200 sidecars that all start.
	sourceRate  = 20
	sourceBurst = 200
	// identityRate and identityBurst bound the certificates of one identity: a service
	// of 100 instances that all start, or of 300 that renew every minute.
	identityRate  = 5
	identityBurst = 100

	// maxReviews bounds the TokenReviews at a time, and the questions for pods: one takes the API server a millisecond or
	// a few. reviewTimeout bounds one with its wait: less than a client waits for its answer.
	maxReviews    = 16
	reviewTimeout = 4 * time.Second
	// mayBeAway is how long certificates of pods are renewed without the API server's word that
	// the pod is there: an outage of a weekend's night ends no mesh, and a stolen key lives no
	// longer than that and a certificate's life.
	mayBeAway = 24 * time.Hour
	// refusedFor is how long a refused token is refused without asking again, and maxRefused
	// how many are remembered. A pod's token may be shown before all of the API server knows
	// the pod, so that it is short.
	refusedFor = 5 * time.Second
	maxRefused = 4096

	// backdate is how long before now a certificate begins, at most and as a part of its
	// life, so that a peer whose clock is behind accepts it at once.
	backdate     = time.Hour
	backdatePart = 10

	// minRetry and maxRetry are the pauses between attempts to reach a gateway, whose
	// first answer may take answerLimit.
	minRetry    = 250 * time.Millisecond
	maxRetry    = 5 * time.Second
	answerLimit = 20 * time.Second
	// pingEvery and pingTimeout are how soon a gateway that fell silent is given up.
	pingEvery   = 15 * time.Second
	pingTimeout = 10 * time.Second
	// maxBundles bounds what a gateway sends at a time, in bytes: a bundle of 1 MiB for
	// each of 16 trust domains.
	maxBundles = 17 << 20

	// followEvery is how often the authority's files are looked at.
	followEvery = 5 * time.Second
	// tidyEvery is how often used tokens are forgotten that ended long ago.
	tidyEvery = 10 * time.Minute
	// forgetAfter is how long after its end a used token is remembered: a clock that is
	// set back by less makes none good again.
	forgetAfter = 24 * time.Hour
)

// The files of the state directory.
const (
	usedTokensFile = "ca-used-tokens"
	bundlesFile    = "ca-bundles.json"
)
