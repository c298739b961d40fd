package tunnel

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// tunnel is one QUIC connection to a peer. Its owner is the goroutine in
// [tunnel.serve].
type tunnel struct {
	endpoint *Endpoint
	conn     *quic.Conn
	id       identity.ID
	gateway  mesh.GatewayID
	instance instance // of the peer's process
	dialled  bool     // by this end
	started  time.Time
	expires  time.Time // when the first certificate of either end does
	ownUntil time.Time // when ours does

	streams  atomic.Int64 // open ones, until the user closes them
	opened   atomic.Uint64
	accepted atomic.Uint64
	leaving  atomic.Bool // the peer said so: open no streams
	peerDone atomic.Bool // the peer's streams have ended and it leaves

	// pulse belongs to [Endpoint.watch], which sets quiet.
	pulse pulse
	quiet atomic.Bool // half dead already: rather use another tunnel

	beats     chan struct{}    // holds 1: a heartbeat is due
	closing   chan *closeError // holds 1: the first reason wins
	ended     chan struct{}    // closed by serve
	controlMu sync.Mutex       // held while a control frame is written
	control   *quic.Stream
}

// newTunnel makes a tunnel of an authenticated connection. ownUntil is when our
// certificate expired at the latest that the handshake may have used.
func newTunnel(e *Endpoint, conn *quic.Conn, dialled bool, ownUntil time.Time) (*tunnel, error) {
	state := conn.ConnectionState().TLS
	id, err := identity.PeerID(state)
	if err != nil {
		return nil, err
	}
	return &tunnel{
		endpoint: e,
		conn:     conn,
		id:       id,
		gateway:  id.GatewayID(),
		dialled:  dialled,
		started:  time.Now(),
		expires:  firstExpiry(state, ownUntil),
		ownUntil: ownUntil,
		beats:    make(chan struct{}, 1),
		closing:  make(chan *closeError, 1),
		ended:    make(chan struct{}),
	}, nil
}

func firstExpiry(state tls.ConnectionState, own time.Time) time.Time {
	first := own
	for _, c := range state.PeerCertificates {
		if c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

// close asks the owner to close the connection. It never blocks.
func (t *tunnel) close(code closeCode, reason string) {
	select {
	case t.closing <- &closeError{code: code, reason: reason}:
	default: // a reason was given already
	}
}

// beat asks the owner to send a heartbeat. It never blocks.
func (t *tunnel) beat() {
	select {
	case t.beats <- struct{}{}:
	default:
	}
}

// fading reports that a certificate expires soon, so that streams should rather
// go by another tunnel.
func (t *tunnel) fading(now time.Time) bool { return now.After(t.expires.Add(-renewLead)) }

// renewable reports that our certificate of this tunnel expires soon and we have
// a new one, so that a replacement should be dialled.
func (t *tunnel) renewable(now time.Time) bool {
	return t.fading(now) && t.ownUntil.Equal(t.expires) && t.endpoint.cfg.Identity.NotAfter().After(t.expires.Add(renewLead))
}

// serve runs an admitted tunnel until it ends and returns why.
func (t *tunnel) serve() error {
	var wg sync.WaitGroup
	defer close(t.ended)
	defer wg.Wait()
	wg.Go(t.acceptStreams)
	wg.Go(t.readControl)
	heartbeat := make([]byte, heartbeatSize)
	for {
		select {
		case <-t.conn.Context().Done():
			return context.Cause(t.conn.Context())
		case <-t.beats:
			// It blocks only when 32 are queued, which the pulse calls death; an
			// error means that the connection has ended.
			_ = t.conn.SendDatagram(heartbeat)
		case why := <-t.closing:
			_ = t.conn.CloseWithError(quic.ApplicationErrorCode(why.code), why.reason)
			// The peer may have been faster.
			if cause := context.Cause(t.conn.Context()); isRemote(cause) {
				return cause
			}
			return why
		}
	}
}

// acceptStreams hands the streams that the peer opens to the listener.
func (t *tunnel) acceptStreams() {
	for {
		q, err := t.conn.AcceptStream(t.conn.Context())
		if err != nil {
			return // the connection has ended; serve says why
		}
		t.accepted.Add(1)
		s := newStream(t, q)
		select {
		case t.endpoint.accepted <- s:
		case <-t.conn.Context().Done():
			_ = s.Abort()
			return
		}
	}
}

// open opens a stream. It waits only when the peer has streamsMost open.
func (t *tunnel) open(ctx context.Context) (*Stream, error) {
	q, err := t.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, streamError(err)
	}
	t.opened.Add(1)
	return newStream(t, q), nil
}

// streamEnded is called once for every stream, when its user has ended it.
func (t *tunnel) streamEnded() {
	if t.streams.Add(-1) == 0 {
		t.closeIfDone()
		t.endpoint.pokeDrain()
	}
}

// closeIfDone closes the tunnel when both ends have no more streams and the peer
// leaves.
func (t *tunnel) closeIfDone() {
	if t.peerDone.Load() && t.streams.Load() == 0 {
		t.close(codeBye, "")
	}
}

// readControl follows the control stream after the hello.
func (t *tunnel) readControl() {
	var buf [frameMost]byte
	for {
		typ, _, err := readFrame(t.control, buf[:])
		if err != nil {
			// At the end of the connection this changes nothing.
			t.close(codeProtocol, fmt.Sprintf("control stream: %v", err))
			return
		}
		switch typ {
		case frameLeaving:
			t.leaving.Store(true)
			t.endpoint.peerLeaves(t)
		case frameDone:
			t.peerDone.Store(true)
			t.closeIfDone()
		}
	}
}

// send writes a control frame without payload.
func (t *tunnel) send(typ frameType) {
	t.controlMu.Lock()
	defer t.controlMu.Unlock()
	if err := t.writeControl(appendFrame(nil, typ, nil)); err != nil {
		t.close(codeProtocol, fmt.Sprintf("control stream: %v", err))
	}
}

func (t *tunnel) writeControl(b []byte) error {
	if err := t.control.SetWriteDeadline(time.Now().Add(controlWrite)); err != nil {
		return err
	}
	_, err := t.control.Write(b)
	return err
}

// greet exchanges hellos on the control stream: the end that dialled opens the
// stream and speaks first; the other answers after it has admitted the tunnel.
// When ctx ends before that the connection is closed.
func (t *tunnel) greet(ctx context.Context, admit func(context.Context, *tunnel) error) error {
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		closeConn(t.conn, fmt.Errorf("no hello: %w", context.Cause(ctx)))
	})
	err := t.exchangeHellos(ctx, admit)
	if !stop() {
		<-cut
		if err == nil {
			err = context.Cause(ctx)
		}
	}
	return err
}

func (t *tunnel) exchangeHellos(ctx context.Context, admit func(context.Context, *tunnel) error) (err error) {
	// Nobody may send frames before the hello, and once the tunnel is admitted
	// others know it.
	t.controlMu.Lock()
	defer t.controlMu.Unlock()
	ours := hello(t.endpoint.instance)
	if !t.dialled {
		if t.control, err = t.conn.AcceptStream(ctx); err != nil {
			return err
		}
	} else {
		if t.control, err = t.conn.OpenStreamSync(ctx); err != nil {
			return err
		}
		if err := t.writeControl(ours); err != nil {
			return err
		}
	}
	if t.instance, err = readHello(t.control); err != nil {
		return err
	}
	if err := admit(ctx, t); err != nil || t.dialled {
		return err
	}
	return t.writeControl(ours)
}
