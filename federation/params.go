package federation

import (
	"time"

	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/federation/gossip"
	"github.com/isthmus-mesh/isthmus/internal/identity"
)

const (
	// publishQuiet is how long a burst of changes must have been over before it
	// becomes one version; maxPublishDelay is when one is made all the same. A pod
	// that restarts is several changes within some ten milliseconds.
	publishQuiet    = 100 * time.Millisecond
	maxPublishDelay = time.Second

	// requestTimeout bounds one request on a tunnel stream, from opening it to
	// the last byte: 16 MiB at 2 MB/s.
	requestTimeout = 10 * time.Second
	// tick is how often timeouts, certificates and retries are looked at.
	tick = time.Second
	// viewInterval is the least time between two views: what happens in between
	// is seen together. The first change after a pause is seen at once.
	viewInterval = 20 * time.Millisecond
	// maxListBytes bounds the decompressed list of versions: that many entries
	// of at most 300 bytes.
	maxListBytes = core.MaxGateways * 300
	// maxLineBytes bounds one line of an answer: a record, or a head with its signature.
	maxLineBytes = 256 << 10
	// maxAnswers bounds the answers about catalogs that are written at once, and
	// maxClusterAnswers those to gateways of one cluster. Who asks for more waits for answerWait.
	maxAnswers        = 32
	maxClusterAnswers = 8
	answerWait        = 2 * time.Second
	// maxKeptBytes and maxKeptAnswers bound the encoded answers that are kept for the next
	// who asks: after a change everybody asks for the same.
	maxKeptBytes   = 32 << 20
	maxKeptAnswers = 256
	// maxGossipStreams bounds the memberlist streams served at once; each is one
	// list of all members, of some 500 bytes each.
	maxGossipStreams = 32
	// maxPeerGossipStreams is how many of them are one peer's: it opens one at a time,
	// and another when a packet to us was lost.
	maxPeerGossipStreams = 4

	// tellAtOnce gateways are told of a new version every tellPause: a thousand of them in
	// a second and a half. Each asks for it then.
	tellAtOnce = 32
	tellPause  = 50 * time.Millisecond

	// trustInterval is how often gateways compare what they trust when nothing has changed
	// that they know of.
	trustInterval = 10 * time.Second
	// maxRefusedLines bounds the lines in the log about bundles of others that are not
	// taken, at once; then there is one a second.
	maxRefusedLines = 16
	// maxTrustExchanges bounds those at a time: a revocation goes to a thousand gateways
	// within some round-trip times.
	maxTrustExchanges = 64
	// maxTrustDomains bounds the trust domains of a report, and maxBehind the sidecars.
	maxTrustDomains = 16
	maxBehind       = 64
	// maxTrustBytes bounds a message of bundles: four of the largest, or sixteen of those
	// that there are.
	maxTrustBytes = 4*identity.MaxBundle + 128<<10

	// maxForgotten is how many gateways one request asks to forget: their names are in
	// its first line, of at most 128 bytes each.
	maxForgotten = 64

	// maxAddress bounds an address, in bytes: with the version and the digest it
	// stays within the 512 of memberlist's NodeMeta.
	maxAddress = 200

	// leaveTimeout bounds how long Shutdown waits for the peers to have pulled the
	// empty catalog, and leaveGossip how long for the last word to be gossiped.
	leaveTimeout = time.Second
	leaveGossip  = 500 * time.Millisecond
	// maxStateFile bounds the state file that is read at the start, in bytes: many
	// times what core.MaxGateways catalogs of 10,000 services are.
	maxStateFile = 1 << 30

	// storeInterval is the least time between two writes of the state file, which
	// cost an fsync each.
	storeInterval = 200 * time.Millisecond
)

// Package gossip lets a push/pull name all gateways that core keeps, and this one.
const _ = uint(gossip.MaxNodes - core.MaxGateways - 1)

// memberlist's tuning. Dead means: out of the probe's reach for one interval and
// suspected for suspicionMult × max(1, log10 n) intervals, which makes 1.2 to
// 1.5 s for up to 10 gateways. Gossip only confirms what tunnels see first.
const (
	probeInterval  = 300 * time.Millisecond
	probeTimeout   = 200 * time.Millisecond
	suspicionMult  = 3
	maxSuspicion   = 2 // × the above, while too few others confirm
	gossipInterval = 100 * time.Millisecond
	gossipNodes    = 3
	// gossipToTheDead is for how long a dead gateway is told, so that it can object.
	gossipToTheDead = 30 * time.Second
	// pushPullInterval is how often all members are compared with one of them.
	pushPullInterval = 15 * time.Second
	// gossipStreamTimeout bounds what memberlist does on one stream.
	gossipStreamTimeout = 5 * time.Second
	// refusalInterval is the least time between two lines about gossip that is refused;
	// the metrics count all.
	refusalInterval = 10 * time.Second
	// checksumBytes is what memberlist puts before some packets beyond its limit.
	checksumBytes = 5
	// maxQueuedPackets bounds the messages of packets that memberlist has not read.
	maxQueuedPackets = 512
)
