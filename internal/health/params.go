package health

import "time"

// Defaults of a [Check]: an address that dies is out within three seconds, one
// that comes back is in within one, at one small connection per second.
const (
	DefaultInterval       = time.Second
	DefaultTimeout        = time.Second
	DefaultHealthyAfter   = 1 // the first answer is believed: failover wants capacity back
	DefaultUnhealthyAfter = 2 // one lost packet is not a death
)

// Bounds of a [Check]. Below the minimum interval the checks themselves are
// the load; above the maximum nobody would call it a health check.
const (
	MinInterval  = 50 * time.Millisecond
	MaxInterval  = time.Hour
	MinTimeout   = 10 * time.Millisecond
	MaxTimeout   = time.Minute
	MaxThreshold = 100
)

const (
	firstRetry   = 100 * time.Millisecond // after the first check of what is not up yet; a check costs one small connection
	jitter       = 0.1                    // of the interval, so that checks of many endpoints spread
	grpcBuffer   = 4 << 10                // bytes, each way, of a check by gRPC: a few frames
	maxGRPCReply = 1 << 10                // bytes; a reply has two
	maxService   = 253                    // bytes of a gRPC service's name
	maxReplyHead = 16 << 10               // bytes of an HTTP reply's head that are read; the body is not
)
