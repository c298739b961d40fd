package http2

// The bounds of a connection. Those of DESIGN's edge profile are the same as in http1.
const (
	// MaxHeadSize bounds a decoded head or trailer section as SETTINGS_MAX_HEADER_LIST_SIZE
	// counts it: names and values in bytes and 32 a field. A larger request head is told
	// as [Head.TooLarge], for a 431.
	MaxHeadSize = 64 << 10
	// MaxFields bounds the fields of a head, without pseudo-header fields and with all
	// crumbs of a cookie as one.
	MaxFields = 100
	// MaxFrame is the largest frame payload in bytes that we accept, the protocol's
	// smallest limit: one TLS record.
	MaxFrame = 16 << 10
	// MinBuffer is the smallest input with which [Conn.Next] always makes progress.
	MinBuffer = frameHeaderSize + MaxFrame

	// DefaultMaxStreams is how many streams a peer may have open.
	DefaultMaxStreams = 100
	// DefaultStreamWindow is how many bytes of a stream may be unread in the beginning.
	DefaultStreamWindow = 64 << 10
	// GrownStreamWindow is how many may be of a stream whose reader keeps up: what a path of
	// 1 ms fills at 2 Gbit/s. Growth is how many more than in the beginning all streams of a
	// connection may have together.
	GrownStreamWindow = 256 << 10
	Growth            = 2 << 20
	// ConnWindow is how many bytes may be on their way to us on all streams. It comes
	// back on arrival.
	ConnWindow = 1 << 20

	// maxBlock bounds a compressed head with its CONTINUATION frames, in bytes. Every
	// frame counts as continuationCost more, so that empty ones end, too.
	maxBlock         = 256 << 10
	continuationCost = 1 << 10
	// maxBlockFields bounds the fields of a head that is too large already: an HPACK
	// bomb is a byte a field.
	maxBlockFields = 4096
	// maxInterim bounds the interim responses of a stream together, in bytes as MaxHeadSize
	// counts them and interimCost each: no window bounds them, and a client may be slow.
	maxInterim  = MaxHeadSize
	interimCost = 1 << 10
	// tableSize bounds both HPACK tables, ours and the peer's, in bytes as RFC 7541 §4.1
	// counts them: the protocol's default.
	tableSize = 4096
	// maxPending bounds what the engine answers on its own while the driver does not take
	// it, in bytes.
	maxPending = 64 << 10
	// maxRecent is how many closed streams are remembered with how they were closed.
	maxRecent = 128

	defaultWindow = 1<<16 - 1 // RFC 9113 §6.9.2
	maxWindow     = 1<<31 - 1 // RFC 9113 §6.9.1
	maxStreamID   = 1<<31 - 1
)
