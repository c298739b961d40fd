package exchange

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"encoding/binary"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

// log writes the exchange's line and counts it, once. It must be called while the
// request's head is still in its buffer.
func (x *exchange) log() {
	if x.logged {
		return
	}
	x.logged = true
	end := x.ended
	if x.reason != "" || end.IsZero() { // something followed the attempt, or there was none
		end = time.Now()
	}
	took := end.Sub(x.started)
	x.s.Metrics.Unreached(x.attempts.Unreached())
	x.s.Metrics.request(x.server.cluster, x.status, took)
	if x.grpc {
		x.s.Metrics.call(x.grpcStatus)
	}
	level := slog.LevelDebug
	if x.reason != "" && x.reason != clientGone && x.reason != connect.ProxyInternal { // upstream has a line a minute for that
		level = slog.LevelInfo
	}
	if !x.s.Log.Enabled(context.Background(), level) {
		return
	}
	path, _, _ := bytes.Cut(x.req.Target(), []byte("?")) // queries may hold secrets
	attrs := []slog.Attr{
		slog.String("method", string(x.req.MethodName())),
		slog.String("path", string(path)),
		slog.Int("code", x.status),
		slog.Duration("duration", took),
		slog.Int64("bytes", x.moved),
		slog.Int("attempts", x.attempts.Asked()),
		slog.String("host", x.server.addr),
		slog.String("cluster", x.server.cluster),
		slog.String("instance", x.server.instance),
	}
	if x.grpc {
		attrs = append(attrs, slog.Int("grpc_status", x.grpcStatus))
	}
	if x.rule != nil {
		attrs = append(attrs, slog.String("rule", x.rule.Name))
	}
	if x.backend != nil {
		attrs = append(attrs, slog.String("backend", x.backend.Destination.String()))
	}
	if _, ok := x.end.(*clientStream); ok {
		attrs = append(attrs, slog.String("protocol", "HTTP/2"))
	}
	id := x.rewrite.RequestID
	if x.req.HasID() {
		id = x.req.Value("x-request-id")
	}
	attrs = append(attrs, slog.String("request", string(id)))
	if x.client.Peer != "" {
		attrs = append(attrs, slog.String("peer_id", x.client.Peer))
	}
	if x.reason != "" {
		attrs = append(attrs, slog.String("reason", x.reason), slog.String("err", x.detail))
	}
	x.s.Log.LogAttrs(context.Background(), level, "request", attrs...)
}

// appendID appends a random UUID (version 4). It identifies and protects nothing.
func appendID(dst []byte) []byte {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(b[8:], rand.Uint64())
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	const digits = "0123456789abcdef"
	for i, x := range b {
		switch i {
		case 4, 6, 8, 10:
			dst = append(dst, '-')
		}
		dst = append(dst, digits[x>>4], digits[x&15])
	}
	return dst
}
