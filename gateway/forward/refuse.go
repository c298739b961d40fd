package forward

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/connect"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// refuse tells the client why there is no path and closes it.
func (p *path) refuse(r *connect.Refusal) {
	f := p.f
	f.metrics.refusal(p.dir, r.Type)
	p.refusal.Store(r)
	if f.cfg.Log.Enabled(f.base, slog.LevelDebug) {
		f.cfg.Log.Debug("path refused", "service", p.req.Destination.String(), "peer_addr", p.conn.RemoteAddr().String(), "err", r)
	}
	linger(p.conn, p.refusalBytes(r), lingerTimeout)
}

func (p *path) refusalBytes(r *connect.Refusal) []byte {
	if p.sni {
		return alert(r)
	}
	return r.Append(nil, connect.ProxyName(p.f.cfg.Self))
}

// overLimit is the refusal of a path beyond the bounds.
func (f *Forward) overLimit() *connect.Refusal {
	perSource, total := f.limits.bounds()
	return connect.Refuse(http.StatusServiceUnavailable, connect.ConnectionLimit,
		"too many paths: %d of one source address may be open, %d in all, and of these each cluster has a share", perSource, total)
}

// alert returns a refusal as a plaintext TLS alert record, for a client that
// speaks nothing else (RFC 8446 §6).
func alert(r *connect.Refusal) []byte {
	const (
		fatal            = 2
		handshakeFailure = 40
		accessDenied     = 49
		decodeError      = 50
		internalError    = 80
		unrecognizedName = 112
	)
	description := byte(internalError)
	switch r.Status {
	case http.StatusNotFound:
		description = unrecognizedName
	case http.StatusForbidden:
		description = accessDenied
	case http.StatusBadRequest:
		description = decodeError
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		description = handshakeFailure
	}
	return []byte{recordAlert, 3, 3, 0, 2, fatal, description}
}

// linger writes b as the last word to a client and closes it. What the client
// still sends is read away for a moment: closing a socket with unread bytes
// resets it, and the client might never read why.
func linger(c relay.Conn, b []byte, timeout time.Duration) {
	_ = c.SetDeadline(time.Now().Add(timeout))
	if _, err := c.Write(b); err != nil {
		relay.Abort(c)
		return
	}
	if err := c.CloseWrite(); err != nil {
		relay.Abort(c)
		return
	}
	buf := make([]byte, firstRead)
	for left := lingerBytes; left > 0; {
		n, err := c.Read(buf)
		left -= n
		if err != nil {
			break
		}
	}
	_ = c.Close()
}
