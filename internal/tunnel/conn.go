package tunnel

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// conn is one QUIC connection to a peer. Its owner is the goroutine in
// [conn.serve].
type conn struct {
	node        *Node
	quic        *quic.Conn
	gateway     mesh.GatewayID
	incarnation incarnation // of the peer's process
	founding    identity.Founding
	dialled     bool // by this end
	started     time.Time
	expires     time.Time // when the first certificate of either end does
	ownUntil    time.Time // when ours does

	gather   gather       // of the streams
	use      *use         // of the peer; set when it is admitted
	streams  atomic.Int64 // open ones, until the user closes them
	opened   atomic.Uint64
	accepted atomic.Uint64
	leaving  atomic.Bool // the peer said so: open no streams
	peerDone atomic.Bool // the peer's streams have ended

	narrow  atomic.Bool // large packets seem to be lost: rather use another connection
	replace atomic.Bool // the end that dialled should replace it
	retired atomic.Bool // it has been replaced: open no streams

	// These belong to the [watcher], which sets quiet
	// and narrow.
	unchecked time.Duration // since it was last looked at, in ticks
	pulse     pulse
	prober    mtuProber
	quiet     atomic.Bool // half dead already: rather use another connection
	idleSince time.Time   // when the last stream of a retired one ended
	saidDone  bool
	expelAt   time.Time // when it ends because its peer is trusted no more; zero: it does not
	expelWhy  string

	echoed     atomic.Uint32 // the highest number of a probe that came back
	probed     atomic.Uint32 // the number of the peer's last probe
	probeNext  atomic.Uint32 // in how many seconds the next one follows that
	datagrams  chan []byte   // to be sent: heartbeats, probes and echoes
	packets    chan []byte   // to be sent, with their type
	packetRate *rate.Limiter // of those that come
	lost       uint64        // packets, as the metric has it; guarded by table.mu

	closing   chan *closeError // holds 1: the first reason wins
	ended     chan struct{}    // closed by serve
	controlMu sync.Mutex       // held while a control frame is written
	control   *quic.Stream
}

// newConn makes a conn of an authenticated QUIC connection. ownUntil is when our
// certificate expired at the latest that the handshake may have used.
func newConn(n *Node, q *quic.Conn, dialled bool, ownUntil time.Time) (*conn, error) {
	proof := q.ConnectionState().TLS
	id, err := identity.PeerID(proof)
	if err != nil {
		return nil, err
	}
	return &conn{
		node:       n,
		quic:       q,
		gateway:    id.GatewayID(),
		dialled:    dialled,
		started:    time.Now(),
		expires:    firstExpiry(proof, ownUntil),
		ownUntil:   ownUntil,
		datagrams:  make(chan []byte, datagramQueue),
		packets:    make(chan []byte, packetQueue),
		packetRate: rate.NewLimiter(maxPacketRate, maxPacketBurst),
		closing:    make(chan *closeError, 1),
		ended:      make(chan struct{}),
	}, nil
}

func firstExpiry(proof tls.ConnectionState, own time.Time) time.Time {
	first := own
	for _, c := range proof.PeerCertificates {
		if c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

// close asks the owner to close the connection. It never blocks.
func (c *conn) close(code closeCode, reason string) {
	select {
	case c.closing <- &closeError{code: code, reason: reason}:
	default: // a reason was given already
	}
}

// serve runs an admitted connection until it ends and returns why.
func (c *conn) serve() error {
	var wg sync.WaitGroup
	defer close(c.ended)
	defer wg.Wait()
	wg.Go(c.acceptStreams)
	wg.Go(c.readControl)
	wg.Go(c.sendDatagrams)
	wg.Go(c.receiveDatagrams)
	for {
		select {
		case <-c.quic.Context().Done():
			return context.Cause(c.quic.Context())
		case why := <-c.closing:
			_ = c.quic.CloseWithError(quic.ApplicationErrorCode(why.code), why.reason)
			// The peer may have been faster.
			if cause := context.Cause(c.quic.Context()); isRemote(cause) {
				return cause
			}
			return why
		}
	}
}

// acceptStreams hands the streams that the peer opens to the listener.
func (c *conn) acceptStreams() {
	for {
		q, err := c.quic.AcceptStream(c.quic.Context())
		if err != nil {
			return // the connection has ended; serve says why
		}
		c.accepted.Add(1)
		s := newStream(c, q)
		if s.incoming = c.node.incoming.Take(c.gateway.Cluster); !s.incoming {
			_ = s.Abort() // it is open
			continue
		}
		select {
		case c.node.accepted <- s:
		case <-c.quic.Context().Done():
			_ = s.Abort()
			return
		}
	}
}

// open opens a stream. It waits only when the peer has maxStreams open.
func (c *conn) open(ctx context.Context) (*Stream, error) {
	q, err := c.quic.OpenStreamSync(ctx)
	if err != nil {
		return nil, streamError(err)
	}
	c.opened.Add(1)
	return newStream(c, q), nil
}

// streamEnded is called once for every stream, when its user has ended it.
func (c *conn) streamEnded(s *Stream) {
	s.pathEnded()
	_ = s.reading.set(s.quic, time.Time{}) // its timer ends
	if s.incoming {
		c.node.incoming.Release(c.gateway.Cluster)
	}
	if c.streams.Add(-1) == 0 {
		c.closeIfDone()
		c.node.table.drained.Notify()
	}
}

// closeIfDone closes the connection when both ends have no more streams and the
// peer leaves; [conn.checkRenewal] does it for one that is retired.
func (c *conn) closeIfDone() {
	if c.peerDone.Load() && c.streams.Load() == 0 && !c.retired.Load() {
		c.close(codeBye, "")
	}
}

// readControl follows the control stream after the hello.
func (c *conn) readControl() {
	var buf [maxFrame]byte
	for {
		typ, _, err := readFrame(c.control, buf[:])
		if err != nil {
			// At the end of the connection this changes nothing.
			c.close(codeProtocol, fmt.Sprintf("control stream: %v", err))
			return
		}
		switch typ {
		case frameLeaving:
			c.leaving.Store(true)
			c.node.table.peerLeaves(c)
		case frameDone:
			c.peerDone.Store(true)
			c.closeIfDone()
		case frameReplace:
			c.replace.Store(true)
			c.node.table.notifyChanged()
		case frameRetire:
			c.retired.Store(true)
			c.peerDone.Store(false)
			c.node.table.notifyChanged()
		}
	}
}

// send writes a control frame without payload.
func (c *conn) send(typ frameType) {
	c.controlMu.Lock()
	defer c.controlMu.Unlock()
	if err := c.writeControl(appendFrame(nil, typ, nil)); err != nil {
		c.close(codeProtocol, fmt.Sprintf("control stream: %v", err))
	}
}

// sendSoon is send for who must not block.
func (c *conn) sendSoon(typ frameType) { c.node.wg.Go(func() { c.send(typ) }) }

func (c *conn) writeControl(b []byte) error {
	if err := c.control.SetWriteDeadline(time.Now().Add(controlWrite)); err != nil {
		return err
	}
	_, err := c.control.Write(b)
	return err
}

// handshake exchanges hellos on the control stream: the end that dialled opens the
// stream and speaks first; the other answers after it has admitted the connection.
// When ctx ends before that the connection is closed.
func (c *conn) handshake(ctx context.Context, admit func(context.Context, *conn) error) error {
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		closeConn(c.quic, fmt.Errorf("no hello: %w", context.Cause(ctx)))
	})
	err := c.exchangeHellos(ctx, admit)
	if !stop() {
		<-cut
		if err == nil {
			err = context.Cause(ctx)
		}
	}
	return err
}

func (c *conn) exchangeHellos(ctx context.Context, admit func(context.Context, *conn) error) (err error) {
	// Nobody may send frames before the hello, and once the connection is admitted
	// others know it.
	c.controlMu.Lock()
	defer c.controlMu.Unlock()
	ours := hello(c.node.incarnation)
	if !c.dialled {
		if c.control, err = c.quic.AcceptStream(ctx); err != nil {
			return err
		}
	} else {
		if c.control, err = c.quic.OpenStreamSync(ctx); err != nil {
			return err
		}
		if err := c.writeControl(ours); err != nil {
			return err
		}
	}
	if c.incarnation, err = readHello(c.control); err != nil {
		return err
	}
	if err := admit(ctx, c); err != nil || c.dialled {
		return err
	}
	return c.writeControl(ours)
}
