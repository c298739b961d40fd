package upstream

import "time"

const (
	// connectTimeout bounds the TCP connect. In a cluster a SYN is answered in
	// well under a millisecond; one lost SYN is resent after 1 s, and by then
	// another host has long answered. Unless Config.Connect says otherwise.
	connectTimeout = time.Second

	// openTimeout bounds everything from the connect to the end of the TLS
	// handshake, the gateway's CONNECT reply included. A frozen process still
	// completes TCP connects (its kernel does), so this is what a frozen host
	// costs a request. It must leave room for a gateway's hedge (200 ms or
	// 3 round trips) and two round trips to the far side of the world.
	openTimeout = 2 * time.Second

	// askAgain is for how long it is believed that a host stands still, or does not.
	askAgain = time.Second

	// shortageInterval is the least time between two lines about what this machine
	// lacks, shedPause the wait for the descriptors of what was shed.
	shortageInterval = time.Minute
	shedPause        = 10 * time.Millisecond

	// maxExcluded bounds the instances named in one Isthmus-Exclude: 32 names
	// of at most 127 bytes stay far below the gateway's limit for a head.
	maxExcluded = 32

	// maxRemotes bounds the remote instances whose failures a service keeps in
	// mind. Names come from outside, and only failing ones are kept.
	maxRemotes = 256

	// maxIdlePerHost bounds the idle connections kept for one host; each costs
	// a socket on both sides. 256 serves 256 concurrent requests without dials.
	maxIdlePerHost = 256

	// maxShared bounds the shared connections to one host: 25,600 streams at 100 each.
	maxShared = 256

	// maxBusy is how many of them are opened for throughput; limitedLook is how often it is
	// looked whether another one would help.
	maxBusy     = 4
	limitedLook = 50 * time.Millisecond

	// sharedSweep is how often shared connections are looked through: how late those in use
	// are refreshed and others drained.
	sharedSweep = time.Second

	// defaultIdleTimeout closes a connection that nobody used for so long. It
	// is well below the 300 s after which the other side's inbound gives up, so
	// that we close first and a request never meets a closing connection.
	defaultIdleTimeout = 60 * time.Second

	// trustIdle is for how long an idle connection is used again without a look
	// at its socket, which costs a system call. A close that comes within a
	// round trip of the last answer crosses the next request anyway, look or
	// not; the look is for those that come later.
	trustIdle = time.Millisecond

	// reuseMargin divides the age at which a program was seen to close an idle
	// connection: what is looked at once in sweepsPerTimeout has closed up to that much
	// earlier.
	reuseMargin = 2

	// provenAge is how long a program must have kept an idle connection to be believed
	// that it keeps them: one that closes at once has done so by then.
	provenAge = 10 * time.Millisecond

	// sweepsPerTimeout is how often in that time the pool is looked through, so
	// that connections which the other side closed do not linger.
	sweepsPerTimeout = 4

	// expiryMargin is how long before a certificate's end, ours or the peer's, an idle
	// connection is given out no more: at the end whoever checks cuts it, and a request
	// with it. A tenth of what it has left where that is less.
	expiryMargin = 30 * time.Second

	// goodbyeSweep is the same for paths through a gateway: how long one that drains
	// waits for us to close what is idle. A look costs a microsecond a path.
	goodbyeSweep = 250 * time.Millisecond

	// renewEvery is the time between two rounds in which a gateway that is in use is
	// asked for paths ahead, give or take a fifth: how long a new far instance waits
	// for its share. A round costs two handshakes, mostly. levelEvery is how often it
	// is looked under load whether an instance has too few paths.
	renewEvery = 5 * time.Second
	levelEvery = 250 * time.Millisecond

	// renewAfter is the age at which the paths to an instance get a new one among
	// them, and so how long a changed weight may wait.
	renewAfter = 12 * time.Second

	// maxWarm bounds the far instances to which paths are opened ahead through one
	// gateway: enough for a caller's share of a larger service to be about even over
	// all callers, and 8 sockets for one that is quiet.
	maxWarm = 8

	// maxLevelled bounds the paths that a round opens to an instance which has too
	// few under load, one after the other.
	maxLevelled = 16

	// maxOwed is how much an instance that was passed over may make up for, in requests
	// of one of weight 1: what differs between instances for a moment, not an outage.
	maxOwed = 3

	// maxPatience bounds the wait for a path that is in use, when to open one has taken very
	// long of late: whoever uses them may stand still.
	maxPatience = 250 * time.Millisecond

	// maxPathStreams is how many requests share a path at most: a packet that is lost on the way
	// delays all of them. fewPaths is how many paths to an instance are in use before a request
	// shares one although another is idle.
	maxPathStreams = 8
	fewPaths       = 4

	// maxSharedOpening is how long it may take to open a path that requests share, two round
	// trips: on a longer link a lost packet delays them all by much.
	maxSharedOpening = 20 * time.Millisecond

	// maxPathCarried is what a stream may have carried while others come onto its path: they
	// would wait behind what more it has.
	maxPathCarried = 32 << 10

	// A path takes no more while one of its requests runs for longer than pathLasting usual ones,
	// or none has ended for as long as pathSilent; but not for less than minPathLasting
	// and minPathSilent, which a pause of a busy machine may last.
	pathLasting    = 4
	pathSilent     = 2
	minPathLasting = 100 * time.Millisecond
	minPathSilent  = 25 * time.Millisecond

	// maxTook is what an exchange counts for at most in what is usual: streams may last for days.
	maxTook = time.Second

	// maxRenewing bounds the rounds that run at a time in this sidecar.
	maxRenewing = 8

	// defaultWarmup is the time over which traffic returns to hosts that came
	// back, and local traffic to a service that recovered.
	defaultWarmup = 10 * time.Second

	// warmupFloor is the share of its weight that a warming host begins with,
	// as Envoy's slow start (min_weight_percent 10): less, and a host that gets
	// little traffic would never be found fit.
	warmupFloor = 0.1

	// overprovisioning is Envoy's factor: a priority takes all the traffic it
	// would get while at least 1/1.4 = 72 % of it is healthy.
	overprovisioning = 1.4

	// minEjection and maxEjection bound how long a failing host is left alone; the
	// time doubles with each ejection in a row. 1 s is long beside a retry and
	// short beside a restart; 30 s costs one probe request a host and half
	// minute.
	minEjection = time.Second
	maxEjection = 30 * time.Second

	// gatewayErrorsToEject is how many answers 502, 503 or 504 or broken
	// exchanges in a row eject a host, as Envoy's consecutive_gateway_failure.
	// A connect failure ejects at once: it is not ambiguous.
	gatewayErrorsToEject = 5

	// latencyDecay is the time constant of the latency average: a peak counts
	// for about this long. Long beside a request, short beside a deployment.
	latencyDecay = 5 * time.Second

	// latencyTolerance is how much worse one host's cost may be before the
	// other is preferred. Latencies of equal hosts differ by such noise all the
	// time; without the tolerance an idle service would get all requests on one
	// instance.
	latencyTolerance = 1.5

	// maxHosts bounds the hosts asked for one request. Asking a dead one costs less
	// than a millisecond, so that this is above maxSends: two dead local instances
	// must not use up what the gateways need.
	maxHosts = 8

	// minHosts is how many a request asks that reached nobody, however late it is: a
	// pause of the whole machine ends every timeout at once.
	minHosts = 3

	// maxSends bounds how often a request is sent, in whole or in part, to somebody who
	// may see it.
	maxSends = 5

	// leaveAfter is how many must have refused or reset a request until it may leave the cluster
	// where somebody perhaps has seen it: when a service is scaled to nothing, all there are going.
	leaveAfter = 2

	// maxCrashes is how often a request is repeated of which somebody may have died.
	maxCrashes = 1

	// maxRounds bounds the rounds: with nobody to ask at all, a caller hears of it
	// after 0.4 s of pauses.
	maxRounds = 4

	// retryWindow is for how long after its first attempt a request is tried again
	// in further rounds. The paths below notice a dead cluster within 1.1 s; a
	// request that met it is tried again then, which begins its window anew.
	retryWindow = 2 * time.Second

	// minPause is the wait before a second round of the same hosts; it doubles with
	// each round and is jittered by half, as Envoy's 25 ms.
	minPause = 25 * time.Millisecond

	// localAttempts is how many of maxHosts may be spent on local endpoints: when
	// that many failed, the local cluster is in trouble and gateways are next.
	localAttempts = 3

	// budgetWindow is over how many seconds retries are compared with requests,
	// budgetRatio how many retries a request earns, budgetFloor how many a
	// second are always allowed: so that retries add at most 20 % load when a
	// service struggles, yet a quiet service can retry at all.
	// They are Linkerd's defaults.
	budgetWindow = 10
	budgetRatio  = 0.2
	budgetFloor  = 10
)
