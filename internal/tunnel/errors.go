package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/quic-go/quic-go"
)

// ErrNoTunnel is returned by [Node.Open] when no live tunnel to the gateway
// exists. Nothing was sent.
var ErrNoTunnel = errors.New("no live tunnel")

// ErrReset says that the peer cut a stream off before its end.
var ErrReset = errors.New("tunnel stream reset by the peer")

// ErrTunnelLost says that the connection that carried a stream died or was closed.
var ErrTunnelLost = errors.New("tunnel lost")

// errSelf says that a connection reached the process that made it.
var errSelf = errors.New("the address is this gateway's own")

// closeCode says why a connection was closed; see the package comment.
type closeCode quic.ApplicationErrorCode

const (
	codeBye closeCode = iota
	codeLeaving
	codeStopped
	codeSilent
	codeExpired
	codeSuperseded
	codeDuplicate
	codeSelf
	codeSurplus
	codeProtocol
	codeBusy
	codeUntrusted
	codeTooLarge
	codeReplaced
)

// String names the code as metrics and the package comment do.
func (c closeCode) String() string {
	names := [...]string{"bye", "leaving", "stopped", "silent", "expired", "superseded", "duplicate", "self", "surplus", "protocol", "busy", "untrusted", "too large", "replaced"}
	if int(c) < len(names) {
		return names[c]
	}
	return "unknown"
}

// Stream codes; see the package comment.
const (
	streamAborted quic.StreamErrorCode = 1
	streamUnread  quic.StreamErrorCode = 2
)

// closeError is why a connection is closed, by this end or the other.
type closeError struct {
	code   closeCode
	reason string
	remote bool
}

// Error says what happened and, where somebody has to act, what to do.
func (e *closeError) Error() string {
	by := "closed"
	if e.remote {
		by = "closed by the peer"
	}
	if e.reason == "" {
		return fmt.Sprintf("%s (%s)", by, e.code)
	}
	return fmt.Sprintf("%s (%s): %s", by, e.code, e.reason)
}

// Labels of connError: for a peer that does not know the connection, and for one that
// takes none.
const (
	labelReset   = "reset"
	labelRefused = "refused"
)

// connError turns an error of a QUIC connection into one that an operator can
// act on, and names the metric label for it.
func connError(err error) (error, string) {
	var (
		closed    *closeError
		app       *quic.ApplicationError
		transport *quic.TransportError
		reset     *quic.StatelessResetError
		idle      *quic.IdleTimeoutError
		handshake *quic.HandshakeTimeoutError
		version   *quic.VersionNegotiationError
	)
	switch {
	case errors.As(err, &closed):
		return err, closed.code.String()
	case errors.As(err, &app):
		c := &closeError{code: closeCode(app.ErrorCode), reason: app.ErrorMessage, remote: app.Remote}
		return c, c.code.String()
	case errors.As(err, &reset):
		return errors.New("the peer was restarted (stateless reset)"), labelReset
	case errors.As(err, &idle):
		return fmt.Errorf("nothing heard for %s: the peer is dead or UDP is lost on the way", quicIdle), "silent"
	case errors.As(err, &handshake):
		return errors.New("no answer: check that a gateway listens there and that UDP passes"), "timeout"
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s: check that a gateway listens there and that UDP passes", dialTimeout), "timeout"
	case errors.As(err, &version):
		return errors.New("the peer speaks no QUIC version of ours: check what listens there"), "version"
	case errors.As(err, &transport) && transport.ErrorCode.IsCryptoError():
		if transport.Remote {
			return fmt.Errorf("the peer refused the TLS handshake (its log says why): %w", err), "tls"
		}
		return fmt.Errorf("TLS handshake: %w", err), "tls"
	case errors.As(err, &transport) && transport.ErrorCode == quic.ConnectionRefused:
		return errors.New("the peer refused the connection: it is overloaded or stopping"), labelRefused
	}
	return err, "other"
}

// streamError turns an error of a QUIC stream into one of this package. Errors
// of deadlines stay: they are net.Error with Timeout.
func streamError(err error) error {
	var timeout net.Error
	var stream *quic.StreamError
	switch {
	case errors.As(err, &stream):
		if stream.Remote {
			return ErrReset
		}
		return net.ErrClosed
	case errors.As(err, new(*quic.IdleTimeoutError)), errors.As(err, new(*quic.ApplicationError)),
		errors.As(err, new(*quic.StatelessResetError)), errors.As(err, new(*quic.TransportError)):
		why, _ := connError(err)
		return fmt.Errorf("%w: %w", ErrTunnelLost, why)
	case errors.As(err, &timeout) && timeout.Timeout():
		return err
	case errors.Is(err, net.ErrClosed):
		return fmt.Errorf("%w: %w", ErrTunnelLost, err)
	}
	return err
}

// isRemote reports whether err says that the peer closed the connection.
func isRemote(err error) bool {
	var app *quic.ApplicationError
	return errors.As(err, &app) && app.Remote
}
