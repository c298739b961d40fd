package federation

import "time"

const (
	// publishQuiet is how long a burst of changes must have been over before it
	// becomes one version; publishMax is when one is made all the same. A pod
	// that restarts is several changes within some ten milliseconds.
	publishQuiet = 100 * time.Millisecond
	publishMax   = time.Second

	// staleAfter is for how long the catalog and the address of a gateway out of
	// reach are kept: a long weekend.
	staleAfter = 72 * time.Hour
	// floorAfter is for how long the version of a forgotten origin is kept, so that
	// nobody can bring its records back. What is older carries a signature whose
	// certificate has expired (30 days in files).
	floorAfter = 31 * 24 * time.Hour

	// exchangeTimeout bounds one request on a tunnel stream, from opening it to
	// the last byte: 16 MiB at 2 MB/s.
	exchangeTimeout = 10 * time.Second
	// syncInterval is how often each live peer is asked which versions it has. It
	// repairs whatever gossip lost; gossip is faster by two orders of magnitude.
	syncInterval = 10 * time.Second
	// tick is how often timeouts, certificates and retries are looked at.
	tick = time.Second
	// maxPulls bounds the catalogs pulled at once, and so their memory.
	maxPulls = 4
	// retryMin and retryMax bound the wait after a failed pull; it doubles.
	retryMin = time.Second
	retryMax = 30 * time.Second
	// viewInterval is the least time between two views: what happens in between
	// is seen together. The first change after a pause is seen at once.
	viewInterval = 20 * time.Millisecond
	// epochMoveInterval is the least time between two moves to a later epoch
	// because somebody holds records of ours that we do not know: two processes
	// with one name would otherwise outbid each other at full speed.
	epochMoveInterval = 5 * time.Second

	// maxGateways bounds the gateways known, whoever tells of them: the design's
	// thousands, at some kilobytes each.
	maxGateways = 4096
	// maxListBytes bounds the decompressed list of versions: maxGateways entries
	// of at most 300 bytes.
	maxListBytes = maxGateways * 300
	// maxGossipStreams bounds the memberlist streams served at once; each is one
	// exchange of all members, of some 500 bytes each.
	maxGossipStreams = 32

	// maxKeys bounds the gossip keys held; a mesh in peace has one, one that is
	// changing keys two. The newest stay.
	maxKeys = 4
	// keySettle is how long a newer key is only understood before it is used, so
	// that everybody has it by then: tunnels hand it on within milliseconds.
	keySettle = 3 * time.Second
	// maxKeysBytes bounds the JSON of a key ring.
	maxKeysBytes = 4 << 10

	// maxAddress bounds an address, in bytes: with the version and the digest it
	// stays within the 512 of memberlist's NodeMeta.
	maxAddress = 200

	// leaveTimeout bounds how long Shutdown waits for the peers to have pulled the
	// empty catalog, and leaveGossip how long for the last word to be gossiped.
	leaveTimeout = time.Second
	leaveGossip  = 500 * time.Millisecond
	// maxStateFile bounds the state file that is read at the start, in bytes: many
	// times what maxGateways catalogs of 10,000 services are.
	maxStateFile = 1 << 30

	// storeInterval is the least time between two writes of the state file, which
	// cost an fsync each; confirmInterval is how often it is noted that the
	// catalogs are up to date still.
	storeInterval   = 200 * time.Millisecond
	confirmInterval = time.Minute
)

// memberlist's tuning. Dead means: out of the probe's reach for one interval and
// suspected for suspicionMult × max(1, log10 n) intervals, which makes 1.2 to
// 1.5 s for up to 10 gateways. Gossip only confirms what tunnels see first.
const (
	probeInterval  = 300 * time.Millisecond
	probeTimeout   = 200 * time.Millisecond
	suspicionMult  = 3
	suspicionMax   = 2 // × the above, while too few others confirm
	gossipInterval = 100 * time.Millisecond
	gossipNodes    = 3
	// gossipToTheDead is for how long a dead gateway is told, so that it can object.
	gossipToTheDead = 30 * time.Second
	// pushPullInterval is how often all members are exchanged with one of them.
	pushPullInterval = 15 * time.Second
	// gossipStreamTimeout bounds a memberlist exchange on a stream.
	gossipStreamTimeout = 5 * time.Second
	// packetBytes is memberlist's limit for a packet: below the 1,452 bytes of
	// payload that IPv6 leaves in an Ethernet frame, tag and encryption included.
	packetBytes = 1400
	// maxQueuedPackets bounds received packets that memberlist has not read.
	maxQueuedPackets = 256
)
