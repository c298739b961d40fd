package relay

import "time"

// largeSize is the size in bytes of the buffer of a direction in which much comes. 32 KiB
// holds two full TLS records; larger ones measured no faster over QUIC streams, whose
// frames are about 1.2 KiB, and cost memory on every busy path. mediumSize is that of any
// other: most messages fit.
const (
	largeSize  = 32 << 10
	mediumSize = 4 << 10
)

// parkAfter is how long a direction keeps its buffer without bytes; half of that at
// least. smallSize is how many bytes it waits with then: a keep-alive message of most
// protocols fits, and goes on without a buffer.
const (
	parkAfter = time.Second
	smallSize = 128
)

// Of splice(2): spliceChunk is how many bytes are moved at most before what was moved
// counts, and spliceLimit how long that may take. The latter must be below quietTime.
// maxSplices bounds the directions that are spliced at a time, each of which holds a
// pipe (two descriptors and up to 1 MiB of the kernel's memory); others copy.
const (
	spliceChunk = 4 << 20
	spliceLimit = quietTime / 2
	maxSplices  = 64
)

// quietTime is how long nothing may move, after an answer, for a path to count
// as quiet: longer than the gaps within an answer that is being sent, shorter
// than what is left of a drain.
const quietTime = 100 * time.Millisecond

// idleTicks is into how many looks the idle timeout is divided: a path ends
// between one and one and a quarter idle timeouts after its last byte, and the
// copy loops need not read the clock.
const idleTicks = 4
