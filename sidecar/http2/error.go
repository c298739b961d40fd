package http2

// Error is a connection error (RFC 9113 §5.4.1). Values are package variables: they
// carry no bytes from outside and cost nothing to return.
type Error struct {
	Code Code
	// Text says what is wrong, in lower case. It goes out as GOAWAY's debug data.
	Text string
}

// Error returns the reason with its code.
func (e *Error) Error() string { return "http/2: " + e.Text + " (" + e.Code.String() + ")" }

// Faults of frames and of their order.
var (
	ErrPreface       = &Error{ProtocolError, "the connection preface is not HTTP/2's"}
	ErrFirstFrame    = &Error{ProtocolError, "the first frame is not SETTINGS"}
	ErrFrameTooLarge = &Error{FrameSizeError, "frame is larger than 16 KiB"}
	ErrFrameLength   = &Error{FrameSizeError, "frame has a length that its type cannot have"}
	ErrPadding       = &Error{ProtocolError, "padding is longer than its frame"}
	ErrStreamZero    = &Error{ProtocolError, "frame of a stream on stream 0"}
	ErrNotStreamZero = &Error{ProtocolError, "frame of the connection on a stream"}
	ErrIdleStream    = &Error{ProtocolError, "frame on a stream that was never opened"}
	ErrStreamID      = &Error{ProtocolError, "stream identifier that the peer may not open"}
	ErrClosedStream  = &Error{StreamClosed, "head on a closed stream"}
	ErrContinuation  = &Error{ProtocolError, "CONTINUATION where none belongs, or another frame within a head"}
	ErrPush          = &Error{ProtocolError, "PUSH_PROMISE, which was not enabled"}
	ErrSettings      = &Error{ProtocolError, "setting with a value that it cannot have"}
	ErrSettingsAck   = &Error{ProtocolError, "acknowledgement of SETTINGS that were not sent"}
	ErrInitialWindow = &Error{FlowControlError, "initial window beyond 2³¹-1"}
	ErrWindowZero    = &Error{ProtocolError, "WINDOW_UPDATE by 0"}
	ErrWindowTooFar  = &Error{FlowControlError, "window beyond 2³¹-1"}
	ErrWindowOverrun = &Error{FlowControlError, "DATA beyond the connection's window"}
	ErrHPACK         = &Error{CompressionError, "malformed field block"}
	ErrHPACKInteger  = &Error{CompressionError, "integer in a field block that is longer than five bytes"}
	ErrTableUpdate   = &Error{CompressionError, "update of the table's size that is too large or not where it belongs"}
)

// Budgets that are used up, see budget.go.
var (
	ErrStreamFaults  = &Error{EnhanceYourCalm, "made you reset: too many streams with faults that we had to reset"}
	ErrContinuations = &Error{EnhanceYourCalm, "continuation flood: a head beyond 256 KiB of frames"}
	ErrSettingsFlood = &Error{EnhanceYourCalm, "settings flood"}
	ErrPingFlood     = &Error{EnhanceYourCalm, "ping flood"}
	ErrEmptyFrames   = &Error{EnhanceYourCalm, "empty frames flood: too many DATA frames without payload"}
	ErrWindowFlood   = &Error{EnhanceYourCalm, "window update flood"}
	ErrPriorityFlood = &Error{EnhanceYourCalm, "priority flood"}
	ErrUselessFrames = &Error{EnhanceYourCalm, "flood of frames of unknown types or for closed streams"}
	ErrBomb          = &Error{EnhanceYourCalm, "hpack bomb: too many fields, or a field beyond 64 KiB"}
	ErrNotReading    = &Error{EnhanceYourCalm, "the peer does not read the answers to its frames"}
)

// What keeps [Conn.OpenStream] from opening one.
var (
	ErrStreamLimit = &Error{RefusedStream, "the peer allows no more streams at a time"}
	ErrGoingAway   = &Error{RefusedStream, "the connection takes no new streams"}
)
