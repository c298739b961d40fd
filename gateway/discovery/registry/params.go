package registry

import "time"

const (
	// maxRegistrations bounds the live registrations of one gateway. At about
	// 0.5 KiB each they are at most 50 MiB.
	maxRegistrations = 100_000

	// maxPerIdentity bounds those of one SPIFFE ID: twice the instances of the largest
	// service we know of.
	maxPerIdentity = 2_000

	// identityRate and identityBurst bound what one SPIFFE ID says, per second and at once,
	// all its sidecars together: each message may be lines in the log and the audit stream,
	// and is told to other clusters. All may come, get ready and come back once more.
	identityRate  = 5
	identityBurst = 4 * maxPerIdentity

	// maxWeightPerIdentity bounds the weights of one SPIFFE ID together, which other
	// clusters are told as a service's capacity: 100 for each of its registrations.
	maxWeightPerIdentity = 100 * maxPerIdentity

	// maxPorts bounds the ports that one service is registered with: half of what other
	// clusters can be told of one.
	maxPorts = 32

	// maxRefusals bounds the memory of who was refused: 1 MiB.
	maxRefusals = 1000

	// refusalInterval is how often the refusal of one registration is worth a
	// line in the log, when it is refused for the same reason again.
	refusalInterval = 10 * time.Minute

	// refusedFor is how long a registration that was refused is in the status: its
	// sidecar tries every 2 s at most.
	refusedFor = time.Minute

	// maxHost bounds a host name, in bytes (RFC 1035).
	maxHost = 253

	// proofTimeout bounds the proof of an address. It is less than a sidecar
	// waits for the answer to its registration (2.5 s).
	proofTimeout = 1500 * time.Millisecond

	// maxProofs bounds the addresses that are asked at a time, and maxProofsPerIdentity those
	// for one SPIFFE ID: who waits has no turn within proofTimeout, and tries again.
	maxProofs            = 64
	maxProofsPerIdentity = 8

	// awaitFor is how long a gateway that has restarted waits for the sidecars
	// that it knew before. They try every 2 s at most (sidecar/gatewaylink), so this is
	// time for two tries.
	awaitFor = 4 * time.Second

	// renewalTime is how long an endpoint outlives the stream of an expired
	// certificate: for two tries with the new one.
	renewalTime = awaitFor

	// knownFor is how long a registration that ended without being withdrawn
	// counts as one to wait for after a restart.
	knownFor = time.Minute

	// saveInterval is the least time between two writes of the state file.
	saveInterval = time.Second
)
