package tunnel

import "time"

// Liveness. See the package comment.
const (
	// tick is how often silence is measured. It adds to the time to see a dead
	// peer; a tick costs a few atomic loads per connection.
	tick = 50 * time.Millisecond
	// lastWords is for how long a peer that was revoked keeps its connections: the bundle
	// that says so is on its way to it (federation/trust.go).
	lastWords = 300 * time.Millisecond

	// tickWorth bounds what one late tick may add to a peer's silence. A tick that is
	// late by less than half its length counts in full. A process that is starved of
	// CPU counts less than the time that passes, so it waits longer for its peers.
	tickWorth = tick + tick/2
	// silence is how long a healthy peer on a short path may be unheard.
	silence = time.Second
	// maxLateSilence bounds what a peer that was late gains.
	maxLateSilence = 2 * time.Second
	// maxSilence bounds it on the longest path; below quicIdle, as is idleSilence.
	maxSilence = 6 * time.Second
	// minSilenceRTTs is the least silence in round trips: one lost heartbeat and its
	// retransmission fit.
	minSilenceRTTs = 4
	// heartbeats is how many heartbeats go unanswered before a peer is dead.
	heartbeats = 4
	// lateMemory is the time constant with which a late answer is forgotten.
	lateMemory = 15 * time.Second
	// heartbeatSize provokes a stateless reset: above RFC 9000's minimum of 43
	// bytes with room for other implementations' margins.
	heartbeatSize = 64
	// quicIdle is QUIC's own idle timeout. It only backs up the pulse, for a
	// process whose pulse hardly runs; it counts authenticated packets.
	quicIdle = 30 * time.Second

	// busyFor is how long a peer counts as in use after the last path to it has ended
	// or a connection has begun, and doubtFor after somebody has doubted that it is alive.
	busyFor  = time.Minute
	doubtFor = 5 * time.Second
	// idleSilence is how long a peer may be unheard that is not in use: a heartbeat every
	// five seconds keeps the state of address translations, which lasts 30 s in most.
	idleSilence = 20 * time.Second
	// idleTick is how often the connections to such a peer are looked at.
	idleTick = 500 * time.Millisecond
)

// Packet size. See the package comment.
const (
	// basePacketSize is what a connection begins with, in bytes: what QUIC wants of
	// every path (RFC 9000, section 14). Path MTU discovery makes it larger within a
	// few round trips, and nothing makes it smaller: then it is replaced.
	basePacketSize = 1200
	// probeEvery is how often a packet of full size is sent to see whether it
	// passes. It adds to the time to see that it does not.
	probeEvery = time.Second
	// idleProbeEvery is the same for a peer that is not in use.
	idleProbeEvery = 20 * time.Second
	// probeRepeat is when the next one follows that waits for its echo, then one at
	// every tick: after two round trips at least.
	probeRepeat = 200 * time.Millisecond
	// probeDoubt is when large packets seem to be lost, as none was echoed for so long
	// by a peer that is heard: then the connection is replaced, which costs nothing
	// if it was an accident. On a long path it is four round trips.
	probeDoubt = time.Second
	// probeLost is when they are lost, and the streams cut that wait for them. With
	// 30 % of the packets lost each way an echo takes more than 2.5 s once in hours.
	probeLost = 4 * time.Second
	// probeHeard is in how many ticks the peer must have been heard meanwhile: one
	// that is silent is dead, and not behind a narrow path.
	probeHeard = 3
	// datagramQueue is how many datagrams wait while quic-go takes no more, but for
	// packets.
	datagramQueue = 8
	// sizeSlack is how far from the true size quic-go's search may end, in bytes.
	sizeSlack = 21
	// minReduced is how long a reduction is told at least: until every connection has
	// seen it.
	minReduced = 10 * time.Second
	// raiseEvery is when larger packets are tried again (RFC 8899's PMTU_RAISE_TIMER).
	raiseEvery = 10 * time.Minute
)

// Packets.
const (
	// MaxPacket is how large a packet may be, in bytes: it fits into a datagram of the
	// smallest QUIC packet, beside the packet's own overhead (datagramOverhead and 4 bytes
	// of packet number), 3 bytes of the frame and 1 of its type, with some to spare.
	MaxPacket = basePacketSize - datagramOverhead - 4 - 3 - 1 - 5
	// packetQueue is how many packets wait on a connection to be sent while quic-go
	// takes no more; then new ones are dropped.
	packetQueue = 32
	// maxPacketRate and maxPacketBurst bound the packets that one connection may bring,
	// per second. A gossiping gateway sends 10 to any one peer, and some more that are
	// answers.
	maxPacketRate  = 200
	maxPacketBurst = 200
)

// Flow control and limits.
const (
	// A stalled stream holds at most its initial window (quic-go only widens it
	// for streams that are read), so that a tunnel still moves with dozens of them.
	initialStreamWindow = 512 << 10 // bytes
	maxStreamWindow     = 8 << 20   // bytes: 800 Mbit/s at 80 ms
	initialConnWindow   = 16 << 20  // bytes
	maxConnWindow       = 64 << 20  // bytes
	// maxStreams is how many streams a peer may have open on one connection, and
	// maxIncoming how many all peers together. Of these the gateways of one cluster may
	// have as many as are free, see [limit.Shares]: half of them when they are alone.
	// What is beyond is reset. One on which nothing was asked yet costs some 20 KiB.
	maxStreams  = 1 << 13
	maxIncoming = 1 << 14
	// maxGathered is how large a Write may be, in bytes, to wait for others that leave
	// with it: smaller than a packet. maxAhead bounds what a stream so queues
	// without waiting for what it queued before, in bytes.
	maxGathered = 1400
	maxAhead    = 16 << 10
	// acceptQueue is how many accepted streams wait for the Listener's user before
	// connections stop accepting.
	acceptQueue = 256
	// defaultConnections is two: one may be lost or stuck behind a loss.
	defaultConnections = 2
	// maxConnections bounds the connections to one peer, whoever dialled.
	maxConnections = 16
	// maxHalfOpen bounds the connections that others dial and whose handshake is not done,
	// and maxGreeting those that have not said hello since.
	maxHalfOpen = 512
	maxGreeting = 512
	// maxUnverified is how many of them there may be before a client must prove its
	// address first: a Retry costs the dialler a round trip, a forged address costs us
	// a handshake.
	maxUnverified = 64
	// maxUnverifiedHost is the same for connections from one source where gateways are
	// known to be, whatever there is from others: two for each of a few gateways that restart.
	maxUnverifiedHost = 8
	// maxUnverifiedHosts bounds what proved no address, from everywhere: a quarter of all.
	maxUnverifiedHosts = maxHalfOpen / 4
	// refusalsLogged is the rate per second and burst of log lines about refused
	// clients; the metric counts them all.
	refusalsLogged = 5
	// receiveBuffer is what quic-go wants of a UDP socket, in bytes.
	receiveBuffer = 7 << 20
)

// Dialling.
const (
	// dialTimeout bounds name resolution, handshake and hello together, and
	// acceptTimeout the hello at the other end.
	dialTimeout   = 5 * time.Second
	acceptTimeout = 5 * time.Second
	minBackoff    = time.Second
	maxBackoff    = 30 * time.Second
	// headStart is what the gateway with the greater name gives the other one.
	headStart = 500 * time.Millisecond
	// shortLife is how soon the end of a dialled connection counts as a failed dial.
	shortLife = 5 * time.Second
	// probeWait is how long an incumbent may take to answer when another process
	// claims its name; on long paths probeRTTs round trips.
	probeWait = 400 * time.Millisecond
	probeRTTs = 3
	probePoll = 10 * time.Millisecond
)

// Other.
const (
	// renewLead is how long before a certificate of a connection expires its
	// replacement is dialled, if the certificate was renewed, and preferred.
	renewLead = 30 * time.Second
	// controlWrite bounds writing a frame to the control stream.
	controlWrite = time.Second
	// doneWait bounds how long a leaving end, whose own streams have ended, waits
	// for the peers to end theirs.
	doneWait = time.Second
	// forgetAfter is when a peer that is down, is no target and did not come back
	// is dropped from [Node.Peers].
	forgetAfter = 10 * time.Minute
	// sweepEvery is how often a materially changed RTT or packet size is told, and
	// connections are retired that have been replaced.
	sweepEvery = time.Second
	// retireQuiet is how long a retired connection must be without streams before
	// this end says so: until then the peer may have opened one.
	retireQuiet = time.Second
	// maxRetired bounds the retired connections of a peer that still have streams. With
	// two at a time, and certificates of a day that are renewed at half of their life,
	// a stream may last eight days.
	maxRetired = 32
)
