package core

import (
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
)

const (
	// staleAfter is for how long the catalog and the address of a gateway out of
	// reach are kept: a long weekend.
	staleAfter = 72 * time.Hour
	// floorAfter is for how long the version of a forgotten origin is kept, so that
	// nobody can bring its records back. What is older carries a signature whose
	// certificate has expired (30 days in files).
	floorAfter = 31 * 24 * time.Hour
	// leftLately is for how long after it said goodbye a gateway is awaited by one that
	// restarts: longer than a mesh takes to restart, one gateway after the other.
	leftLately = time.Hour
	// awaitFor is how long a gateway that has restarted awaits those it remembers.
	awaitFor = 10 * time.Minute
	// syncInterval is how often each live peer is asked which versions it has. It
	// repairs whatever gossip lost; gossip is faster by two orders of magnitude.
	syncInterval = 10 * time.Second
	// syncShare is how much longer that is for every peer: of more than a hundred, ten are
	// asked a second. maxSyncs bounds those that are asked at once, and maxClusterSyncs
	// those of one cluster, which may keep us waiting.
	syncShare       = 100 * time.Millisecond
	maxSyncs        = 16
	maxClusterSyncs = 4
	// faultInterval is the least time between two lines about one outage of syncs.
	faultInterval = time.Minute
	// maxPulls bounds the catalogs pulled at once, and so their memory, and maxClusterPulls
	// those of them that gateways of one cluster are asked for.
	maxPulls        = 4
	maxClusterPulls = 2
	// maxFailures in a row is as long a wait as there is.
	maxFailures = 8
	// maxClusterOrigins and maxClusterBytes bound what is held of one cluster: its gateways,
	// those that have left lately included, and their catalogs. maxTold bounds the gateways that
	// those of one cluster tell of and that have not shown a catalog yet.
	maxClusterOrigins = 64
	maxClusterBytes   = 4 * catalog.MaxStateBytes
	maxTold           = 512
	// minRetry and maxRetry bound the wait after a failed pull; it doubles.
	minRetry = time.Second
	maxRetry = 30 * time.Second
	// redialInterval is how often a gateway is dialled that gossip says is alive and
	// that no tunnel leads to. At most maxRedials are every redialPause, or those that
	// can never be reached from here would cost more the more there are.
	redialInterval = 3 * time.Second
	redialPause    = time.Second
	maxRedials     = 8

	// maxLeftOut is how many of an origin's services are named that do not count.
	maxLeftOut = 16

	// maxUnproved bounds the members that only gossip tells of, as no tunnel has led to
	// them, and maxClusterUnproved those of one cluster. Who joins a large mesh meets
	// more than that, a few at a time, and is met by all.
	maxUnproved        = 256
	maxClusterUnproved = 8
	// unprovedDeadFor is how long such a one keeps its place after its death: longer than
	// memberlist remembers the dead, so that the bound is memberlist's too.
	unprovedDeadFor = 2 * time.Minute
	// maxHints bounds the addresses that are dialled although only gossip tells of them,
	// and maxClusterHints those of one cluster's gateways. While others wait, each
	// is dialled for hintTurn: some two to four times.
	maxHints        = 32
	maxClusterHints = 4
	hintTurn        = 10 * time.Second
	// maxClusterGateways bounds the gateways of one cluster that are known by tunnels.
	maxClusterGateways = 256
	// rejoinAfter is how long gossip has called a gateway dead that a tunnel leads to
	// before it is told to join it again: longer than one that leaves takes to say so
	// in its tunnels.
	rejoinAfter = 2 * time.Second
	// MaxAhead is how far ahead of this gateway's clock an epoch may be, which is when its
	// process started: nobody can set a version that nothing newer can follow.
	MaxAhead = 24 * time.Hour

	// epochMoveInterval is the least time between two moves to a later epoch
	// because somebody holds records of ours that we do not know: two processes
	// with one name would otherwise outbid each other at full speed.
	epochMoveInterval = 5 * time.Second
	// confirmInterval is how often it is saved that the catalogs are up to date still.
	confirmInterval = time.Minute

	// MaxGateways bounds the gateways known, whoever tells of them: the design's
	// thousands, at some kilobytes each.
	MaxGateways = 4096
)
