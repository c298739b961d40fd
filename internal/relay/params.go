package relay

import "time"

// bufferSize is the size in bytes of the buffer of one direction. 32 KiB holds
// two full TLS records; larger ones measured no faster over QUIC streams, whose
// frames are about 1.2 KiB, and cost memory on every idle path.
const bufferSize = 32 << 10

// quietTime is how long nothing may move, after an answer, for a path to count
// as quiet: longer than the gaps within an answer that is being sent, shorter
// than what is left of a drain.
const quietTime = 100 * time.Millisecond

// idleTicks is into how many looks the idle timeout is divided: a path ends
// between one and one and a quarter idle timeouts after its last byte, and the
// copy loops need not read the clock.
const idleTicks = 4
