package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Stream is one byte stream in a tunnel: a [net.Conn] with half-close. One
// goroutine may read while another writes; Close and Abort may be called at any
// time from any goroutine. Who has a Stream must Close or Abort it.
type Stream struct {
	conn  *conn
	quic  *quic.Stream
	ended atomic.Bool // Close or Abort was called

	path, pathOver atomic.Bool // CarriesPath was called; and it has ended since
	// incoming says that the peer opened it, and that it counts in [Node.incoming].
	incoming bool

	reading readDeadline
	limited atomic.Bool // there is a write deadline

	// writing is held while a Write or CloseWrite runs: QUIC streams must not be
	// closed under a Write. It guards what follows, but for what gather does meanwhile.
	writing sync.Mutex
	small   []byte     // what is being written, for gather
	queued  chan error // holds 1: that another queued small
	ahead   int        // bytes that were queued since a Write waited for those before
}

var _ net.Conn = (*Stream)(nil)

func newStream(c *conn, q *quic.Stream) *Stream {
	c.streams.Add(1)
	return &Stream{conn: c, quic: q, queued: make(chan error, 1)}
}

// Read reads what the peer wrote. It returns io.EOF after the peer's CloseWrite
// or Close, and [ErrReset] or [ErrTunnelLost] when the stream was cut off.
func (s *Stream) Read(b []byte) (int, error) {
	n, err := s.quic.Read(b)
	if err != nil {
		err = streamError(err)
	}
	return n, err
}

// Write queues b for the peer; it blocks when the peer does not read.
func (s *Stream) Write(b []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if len(b) <= maxGathered && s.ahead+len(b) <= maxAhead && !s.limited.Load() {
		s.small = b
		err := s.conn.gather.write(s)
		s.small = nil
		switch {
		case err == nil:
			s.ahead += len(b)
			return len(b), nil
		case !errors.Is(err, quic.ErrWouldBlock):
			return 0, streamError(err)
		}
	}
	s.ahead = 0
	n, err := s.quic.Write(b)
	if err != nil {
		err = streamError(err)
	}
	return n, err
}

// CloseWrite tells the peer that no more bytes come; those that were written
// are delivered first. It waits for a Write that is under way.
func (s *Stream) CloseWrite() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.quic.Close(); err != nil {
		return net.ErrClosed // it was aborted
	}
	return nil
}

// Close ends both directions: what was written is still delivered, followed by
// the end of the stream, and what the peer still writes is refused. A Write that
// is under way cannot end well any more: then it is an Abort.
func (s *Stream) Close() error {
	if s.ended.Swap(true) {
		return net.ErrClosed
	}
	if s.writing.TryLock() {
		_ = s.quic.Close() // fails when aborted: then there is nothing to end
		s.writing.Unlock()
	} else {
		s.quic.CancelWrite(streamAborted)
	}
	s.quic.CancelRead(streamUnread)
	s.conn.streamEnded(s)
	return nil
}

// Abort resets both directions: what was not delivered yet is dropped and the
// peer's Read fails with [ErrReset] instead of ending. After Close it does
// nothing.
func (s *Stream) Abort() error {
	if s.ended.Swap(true) {
		return net.ErrClosed
	}
	s.quic.CancelWrite(streamAborted)
	s.quic.CancelRead(streamAborted)
	s.conn.streamEnded(s)
	return nil
}

// Peer returns the gateway at the other end.
func (s *Stream) Peer() mesh.GatewayID { return s.conn.gateway }

// LocalAddr returns the UDP address of this end of the tunnel.
func (s *Stream) LocalAddr() net.Addr { return s.conn.quic.LocalAddr() }

// RemoteAddr returns the UDP address of the other end of the tunnel.
func (s *Stream) RemoteAddr() net.Addr { return s.conn.quic.RemoteAddr() }

// SetDeadline sets the time after which Read and Write fail with a timeout.
func (s *Stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline sets the time after which Read fails with a timeout.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.reading.set(s.quic, t) }

// SetWriteDeadline sets the time after which Write fails with a timeout.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.limited.Store(!t.IsZero())
	return s.quic.SetWriteDeadline(t)
}

type streamKey struct{}

// ConnContext puts the stream that a request came by into its context. It is
// for the ConnContext of a [net/http.Server].
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if s, ok := c.(*Stream); ok {
		return context.WithValue(ctx, streamKey{}, s)
	}
	return ctx
}

// StreamFrom returns the stream that a request came by.
func StreamFrom(ctx context.Context) (*Stream, bool) {
	s, ok := ctx.Value(streamKey{}).(*Stream)
	return s, ok
}
