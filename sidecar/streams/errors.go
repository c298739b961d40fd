package streams

import (
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/sidecar/http2"
)

// ErrFull is why [Conn.Open] gives no stream: as many as may be are open.
var ErrFull = errors.New("as many streams are open on the connection as may be")

// ErrGoingAway is why [Conn.Open] gives no stream: the connection takes no new ones, by our
// wish or the other end's, and ends with those that run.
var ErrGoingAway = errors.New("the connection takes no new streams")

// ErrHeadTooLarge is why [Stream.ReadHead] gives none: it is larger than a head may be.
var ErrHeadTooLarge = errors.New("the head is larger than 64 KiB or has more than 100 fields")

// ErrHeadNotTaken is why [Stream.WriteRequest] writes none: it is larger than the other end
// says that it takes.
var ErrHeadNotTaken = errors.New("it takes no head as large as this")

// ResetError is why a stream ended before its time.
type ResetError struct {
	Code   http2.Code
	Remote bool // the other end did it
	// Unprocessed says that no application at the other end has seen the stream: it was
	// refused, or is beyond what the other end says it has begun.
	Unprocessed bool
	Text        string // what was wrong with what the other end sent; may be empty
}

// Error says who ended the stream, and why.
func (e *ResetError) Error() string {
	switch {
	case e.Unprocessed:
		return fmt.Sprintf("the stream was not taken: %v", e.Code)
	case e.Text != "":
		return fmt.Sprintf("the other end broke the protocol: %s (%v)", e.Text, e.Code)
	case !e.Remote && e.Code == http2.EnhanceYourCalm:
		return "the stream was reset: too much waits to be read in this process"
	case e.Remote:
		return fmt.Sprintf("the other end reset the stream: %v", e.Code)
	}
	return fmt.Sprintf("the stream was reset: %v", e.Code)
}

// ConnError is why all streams of a connection ended: it is gone.
type ConnError struct{ Err error }

// Error says what became of the connection.
func (e *ConnError) Error() string { return "the shared connection broke: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ConnError) Unwrap() error { return e.Err }
