package connect

const (
	// maxHead bounds a head, in bytes. Ours are below 1 KiB; what curl and Envoy
	// add stays below 4 KiB.
	maxHead = 16 << 10

	// readSize is what a head's buffer grows by at least, in bytes.
	readSize = 1 << 10

	// maxInterim bounds the 1xx heads before a reply. Nobody of ours sends one.
	maxInterim = 8

	// maxVia is how many gateways a CONNECT may have passed: the near one, and
	// one between that relays.
	maxVia = 2

	// maxInstances bounds the entries of Isthmus-Exclude and of Isthmus-Held. Sidecars
	// write 33 at most.
	maxInstances = 64

	// maxWeight bounds a weight in a reply, so that a sum of many does not overflow.
	// Endpoints have at most a thousand.
	maxWeight = 1_000_000

	// maxName bounds the name of an instance or a gateway in a header, in bytes,
	// as DNS bounds a name.
	maxName = 253

	// maxDetails bounds the text of a refusal, in bytes: it holds a sentence about
	// each candidate. maxBehind bounds the Proxy-Status that is passed on: the
	// text may double by quoting, and both together stay far below maxHead.
	maxDetails = 1024
	maxBehind  = 4 << 10
)
