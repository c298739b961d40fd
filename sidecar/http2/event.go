package http2

// Kind says what an [Event] is about.
type Kind uint8

// What [Conn.Next] tells. The fields that are set beside Stream and Owner are named.
const (
	// KindNone is a frame that the driver need not know of.
	KindNone Kind = iota
	// KindHead is a request (server) or a response, interim ones included (client):
	// Head, End. In a server a stream begins with it, and Owner is nil.
	KindHead
	// KindData is payload: Payload, End. With End Payload may be empty.
	KindData
	// KindTrailers ends the peer's side of a stream: Head, End (always true).
	KindTrailers
	// KindReset ends a stream: Code, and Local with Text when the engine reset it for a
	// fault of the peer. Owner is nil when the stream was never told of.
	KindReset
	// KindGoAway says that the peer takes no new streams: Code, LastStream, Payload (debug
	// data). Streams that we opened above LastStream were not processed: see
	// [Conn.AppendOwners] and [Conn.Forget].
	KindGoAway
	// KindWindow says that more may be sent: on Stream, or on every stream when it is 0.
	// Told only of streams and connections for which AppendData took less than it was given.
	KindWindow
	// KindSettings says that the peer's settings came or changed.
	KindSettings
	// KindSettingsAck says that the peer took ours.
	KindSettingsAck
	// KindDrained says that, after [Conn.AppendDrain], the peer has learned that no new
	// streams are taken, or that the engine takes none for too many resets: what is open now
	// is all there will be.
	KindDrained
)

// Event is what one frame, or a part of it, means. Payload is a slice of the input, Head
// belongs to the Conn: both are good until the next call of [Conn.Next].
type Event struct {
	Kind       Kind
	End        bool   // the peer sends no more on Stream
	Local      bool   // KindReset: by this engine
	Code       Code   // KindReset, KindGoAway
	Stream     uint32 // 0: the connection
	LastStream uint32 // KindGoAway
	Owner      any    // what [Conn.Attach] gave
	Head       *Head
	Payload    []byte
	Text       string // KindReset with Local: what was wrong
}
