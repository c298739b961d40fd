package http1

// The bounds of a message. They follow Envoy's edge profile: what exceeds them is
// an attack or a mistake that the application should hear of by a clear status.
const (
	// MaxHead bounds a head in bytes, request or status line and blank line
	// included: 431 beyond it; less where another hop follows. Cookies and tokens of
	// real programs stay below 16 KiB.
	MaxHead = 64 << 10
	// MaxFields bounds the field lines of a head or trailer section: 431; less where
	// another hop follows.
	MaxFields = 100
	// MaxLine bounds the request line in bytes: 414. It leaves room for the fields
	// in a head of MaxHead and is four times what browsers and caches support.
	MaxLine = 32 << 10
	// MaxChunkLine bounds a chunk-size line with its extensions, which nobody
	// uses for more than a signature.
	MaxChunkLine = 1 << 10
	// MaxTrailer bounds a trailer section in bytes. It is also the smallest read buffer
	// with which a [Body] always makes progress: the section is consumed whole.
	MaxTrailer = 8 << 10
	// maxListed bounds the field names that Connection may list besides close,
	// keep-alive and upgrade; more than a few is an attempt to have our fields dropped.
	maxListed = 16
)
