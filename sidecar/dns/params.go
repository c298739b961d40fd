package dns

import "time"

// portTries is how many ports are tried for one that is free for UDP and TCP.
const portTries = 20

const (
	// ttl is how long an answer of ours holds, in seconds: addresses never change,
	// but whether a service exists does. Negative answers hold as long.
	ttl = 5

	// answerLimit bounds how long a question for a mesh name waits for the control
	// plane. It is what resolvers wait by default.
	answerLimit = 5 * time.Second

	// inMeshLimit bounds how long a question for a name of Kubernetes waits to be known for
	// the mesh's: a gateway answers in milliseconds, and Kubernetes' own names must be answered
	// without one, within the second or so after which some programs ask again.
	inMeshLimit = 800 * time.Millisecond

	// undecidedFor is how long questions for a name do not wait for that after one has waited in
	// vain: a gateway that has met no other cluster yet, or none that answers.
	undecidedFor = 15 * time.Second

	// forwardLimit bounds how long a forwarded question waits, over all servers. A
	// resolver asks again after 5 s.
	forwardLimit = 5 * time.Second
	// hedgeAfter is the silence of one server after which the next is asked as well:
	// above the slowest honest recursion, well below a resolver's patience.
	hedgeAfter = time.Second
	// dialLimit bounds connecting to one server over TCP.
	dialLimit = 2 * time.Second

	// tcpIdle closes a client's TCP connection on which nothing moved (RFC 7766 asks
	// for seconds to minutes).
	tcpIdle = 60 * time.Second
	// writeLimit bounds the writing of one message: a client that does not read its
	// answers loses them.
	writeLimit = 5 * time.Second

	// shedPause is the wait for descriptors of connections that were ended.
	shedPause = 10 * time.Millisecond
	// shortageInterval is the least time between two lines about their lack.
	shortageInterval = time.Minute

	// readPause is the wait after a socket could not be read.
	readPause = 50 * time.Millisecond
)

const (
	// lookEvery is the least time between two looks at whether resolv.conf has changed.
	lookEvery = time.Second
	// maxResolvConf is how much of it is read, in bytes, and maxServers how many of its
	// servers are asked: the C library asks no more (MAXNS). maxSearch bounds its search
	// list, which the C library does not since 2.26.
	maxResolvConf = 64 << 10
	maxServers    = 3
	maxSearch     = 64
)

const (
	// maxQuestions bounds the questions that wait over UDP, each with a socket when
	// it is forwarded. Beyond, questions are dropped and asked again by the program.
	maxQuestions = 1024
	// maxPerClient bounds those of one socket, a quarter of them: a resolver of its own in the
	// program uses one for all its questions.
	maxPerClient = maxQuestions / 4
	// maxConnections bounds the TCP connections of one listener; beyond, callers wait
	// in the kernel's queue.
	maxConnections = 256
	// maxPipelined bounds the mesh questions of one TCP connection that wait.
	maxPipelined = 16

	// maxPending bounds those that wait for a server; beyond, they are SERVFAIL.
	maxPending = 1024

	// maxAliases bounds the CNAMEs that are followed to a mesh name: resolvers give up at
	// about as many.
	maxAliases = 16

	// maxUDPAnswer is the most we send over UDP in bytes, whatever the client takes:
	// it always arrives whole (DNS Flag Day 2020).
	maxUDPAnswer = 1232
	// maxMessage is the longest DNS message in bytes: its length has 16 bits.
	maxMessage = 65535
)

const (
	// forgetPresent is how long a service that nobody asks for any more stays
	// subscribed to.
	forgetPresent = time.Hour
	// forgetAbsent is the same for a name that gave no service: with search lists,
	// programs ask for many such, once.
	forgetAbsent = time.Minute
	// forgetOutside is the same for a name of Kubernetes that is none of the mesh: programs ask
	// for such ever again, and a gateway is to be asked once.
	forgetOutside = 10 * time.Minute
	// expireEvery is how often that is looked at.
	expireEvery = 10 * time.Second
	// maxNames bounds the names subscribed to: below the 10,000 that a gateway
	// allows a sidecar, of which routes need some, too.
	maxNames = 4096
)

const (
	// rewriteDelay is how long addresses that could not be written wait for others,
	// rewriteInterval how long until it is tried again.
	rewriteDelay    = 100 * time.Millisecond
	rewriteInterval = time.Second
)
