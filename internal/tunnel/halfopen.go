package tunnel

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"

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
//
// Where gateways are known to be, no address need be proved while few connections from
// there are half open: quic-go drops a client's first packets when it has too many Retries
// to send, and the client repeats them after 200 ms only. Who forges such an address gets
// those few, and gateways there are asked for a proof like everybody; who forges those of many
// gateways gets no more than a part of all places.
type halfOpen struct {
	held     *limit.Shares[limit.Source]
	unproved atomic.Int64                              // of held, those that proved no address
	hosts    atomic.Pointer[map[limit.Source]struct{}] // where gateways are; never changed
}

func newHalfOpen() *halfOpen {
	h := &halfOpen{held: limit.NewShares[limit.Source](maxHalfOpen, 1)}
	h.hosts.Store(&map[limit.Source]struct{}{})
	return h
}

// doubts reports whether a client must prove its address first. It is
// [quic.Transport.VerifySourceAddress].
func (h *halfOpen) doubts(addr net.Addr) bool {
	if held, _ := h.held.Used(); held < maxUnverified {
		return false
	}
	if h.unproved.Load() >= maxUnverifiedHosts {
		return true
	}
	source := limit.SourceOf(addr)
	_, known := (*h.hosts.Load())[source]
	return !known || h.held.Held(source) >= maxUnverifiedHost
}

type halfOpenKey struct{}

// begin counts a connection, or refuses it. It is [quic.Transport.ConnContext]: ctx
// ends with the connection.
func (h *halfOpen) begin(ctx context.Context, from *quic.ClientInfo) (context.Context, error) {
	source := limit.SourceOf(from.RemoteAddr)
	if !h.held.Take(source) {
		return nil, errTooMany
	}
	unproved := int64(0)
	if !from.AddrVerified {
		unproved = 1
	}
	h.unproved.Add(unproved)
	release := sync.OnceFunc(func() {
		h.held.Release(source)
		h.unproved.Add(-unproved)
	})
	context.AfterFunc(ctx, release)
	return context.WithValue(ctx, halfOpenKey{}, release), nil
}

// ended says that a connection is half open no more.
func ended(q *quic.Conn) {
	if release, ok := q.Context().Value(halfOpenKey{}).(func()); ok {
		release()
	}
}
