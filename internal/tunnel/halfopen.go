package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/internal/limit"
)

// errTooMany is why quic-go refuses a connection, which its dialler reads as
// CONNECTION_REFUSED.
var errTooMany = errors.New("too many handshakes")

// halfOpen counts the connections that others dial, from their first packet until their
// handshake is done. Such a one costs some 60 KiB, and anybody can make it: with a
// forged address until he must prove it by a Retry, which costs us nothing, and then
// from each source as many as are free, see [limit.Shares].
type halfOpen struct {
	held *limit.Shares[limit.Source]
}

func newHalfOpen() *halfOpen {
	return &halfOpen{limit.NewShares[limit.Source](maxHalfOpen, 1)}
}

// doubts reports whether a client must prove its address first. It is
// [quic.Transport.VerifySourceAddress].
func (h *halfOpen) doubts(net.Addr) bool {
	held, _ := h.held.Used()
	return held >= maxUnverified
}

type halfOpenKey struct{}

// begin counts a connection, or refuses it. It is [quic.Transport.ConnContext]: ctx
// ends with the connection.
func (h *halfOpen) begin(ctx context.Context, from *quic.ClientInfo) (context.Context, error) {
	source := limit.SourceOf(from.RemoteAddr)
	if !h.held.Take(source) {
		return nil, errTooMany
	}
	release := sync.OnceFunc(func() { h.held.Release(source) })
	context.AfterFunc(ctx, release)
	return context.WithValue(ctx, halfOpenKey{}, release), nil
}

// ended says that a connection is half open no more.
func ended(q *quic.Conn) {
	if release, ok := q.Context().Value(halfOpenKey{}).(func()); ok {
		release()
	}
}
