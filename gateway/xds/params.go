package xds

import "time"

const (
	// lastWords is for how long a sidecar that was revoked keeps its connection: the
	// bundle that says so is on its way to it (gateway/bundles).
	lastWords = 300 * time.Millisecond

	// pingTimeout is gRPC's own limit on the answer to a ping. It is long, because
	// internal/liveness breaks a silent connection before, and more fairly.
	pingTimeout = 20 * time.Second

	// publishInterval is the least time between two publications. The first change
	// after a quiet time goes out at once; a storm of changes costs 20
	// encodings a second.
	publishInterval = 50 * time.Millisecond

	// prefaceTimeout bounds the HTTP/2 preface, once hands are shaken.
	prefaceTimeout = 10 * time.Second

	// connectionPart and maxConnections bound the sidecars' connections: one each, and
	// one more while it is replaced. At 60 KiB each they are 1 GiB at most.
	connectionPart = 4
	maxConnections = 16 << 10

	// strangerPart and maxStrangers bound those that have not proved who they are yet. It
	// is many, because after a restart all sidecars come at once, and each of them waits
	// for its turn: at 8 KiB until then they are 32 MiB.
	strangerPart = 8
	maxStrangers = 4 << 10

	// maxMessage bounds one request, in bytes: about 60,000 names.
	maxMessage = 4 << 20

	// maxResponse bounds the resources of one incremental response, in bytes, but
	// for one that alone is larger; the rest follows in further responses.
	maxResponse = 1 << 20

	// maxSending bounds the responses that are encoded and written at a time, and maxTurn
	// how long one may take for it before another one's turn comes.
	maxSending = 32
	maxTurn    = time.Second

	// maxNames bounds the names that one stream may subscribe to, per type.
	maxNames = 10_000

	// maxNamesPerCaller bounds the names that all streams of one identity from one
	// IP address subscribe to, types added up: a hundred sidecars with 500 upstreams
	// each, on one host. At about 0.5 KiB each they are at most 50 MiB.
	maxNamesPerCaller = 100_000

	// maxUnanswered bounds the responses of one type that a stream has not
	// answered. Clients answer each before they ask for more.
	maxUnanswered = 16

	// minRefusedPause and maxRefusedPause are how long what a client has refused
	// waits before it, or a part of it, goes out again: a client that refuses
	// everything is asked once a second.
	minRefusedPause = 50 * time.Millisecond
	maxRefusedPause = time.Second

	// sendPause is how long an answer waits for which the protocol engine had no room.
	sendPause = 50 * time.Millisecond

	// maxReason bounds what a client says of what it refuses, in bytes, for the log.
	maxReason = 1 << 10

	// maxLines bounds the lines about such in the log at once; then there is one a second.
	maxLines = 64

	// maxTypes bounds the resource types that one stream may ask for; Envoy knows
	// 11. maxTypeURL bounds the name of each, in bytes.
	maxTypes   = 64
	maxTypeURL = 256

	// maxHosts bounds the host names that are resolved for clients that take IP
	// addresses only, maxLookups how many of them are asked for at a time.
	// Each is asked for every resolveInterval, or resolveRetry when that failed;
	// a question may take lookupTimeout.
	maxHosts        = 1_000
	maxLookups      = 8
	resolveInterval = 30 * time.Second
	resolveRetry    = 5 * time.Second
	lookupTimeout   = 5 * time.Second

	// maxName bounds one name, in bytes: a DNS name of 253 and a port.
	maxName = 260

	// maxStreams bounds the concurrent streams of one connection. Our sidecar
	// opens two; Envoy one per type at most.
	maxStreams = 32

	// connectionBuffer is the read and write buffer of a connection, in bytes.
	// grpc-go's 32 KiB each would be 64 MiB for 1,000 idle sidecars.
	connectionBuffer = 4 << 10

	// rememberFor is how long a name that an identity asked for stays in what it
	// is told for "*" after it last asked.
	rememberFor = 7 * 24 * time.Hour

	// maxRemembered bounds the names remembered per identity; the one asked for
	// longest ago goes first.
	maxRemembered = 1_000

	// maxIdentities bounds the identities remembered, likewise.
	maxIdentities = 10_000

	// saveDelay is how long what is remembered waits for more before it is written,
	// saveInterval the least time between two writes.
	saveDelay    = time.Second
	saveInterval = 5 * time.Second
)
