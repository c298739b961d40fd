package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// serveTCP serves the connections of l until that is closed, and returns when none
// is left.
func (s *Server) serveTCP(ctx context.Context, l net.Listener) {
	var conns sync.WaitGroup
	defer conns.Wait()
	slots := make(chan struct{}, maxConnections)
	for {
		slots <- struct{}{}
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			<-slots
			s.log.Warn("cannot accept: raise the limit of open files if this persists", "err", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		conns.Go(func() {
			defer func() { <-slots }()
			newStream(s, conn).run(ctx)
		})
	}
}

// stream is one client's TCP connection. Questions for mesh names are answered as
// their answers come; all others go down one connection to a server, and what comes
// back on that goes to the client as it is, so that even a zone transfer passes.
type stream struct {
	s      *Server
	client net.Conn
	slots  chan struct{} // bounds the mesh questions that wait
	tasks  sync.WaitGroup

	writing sync.Mutex // one message at a time to the client

	mu      sync.Mutex
	far     net.Conn // to a server; nil: not now
	pending int      // questions sent on far less messages that came back
	ending  bool     // the client asks no more
}

func newStream(s *Server, client net.Conn) *stream {
	return &stream{s: s, client: client, slots: make(chan struct{}, maxPipelined)}
}

// run serves the connection to its end, and closes it.
func (t *stream) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, t.abort)
	defer stop()
	for {
		_ = t.client.SetReadDeadline(time.Now().Add(tcpIdle))
		if ctx.Err() != nil {
			break
		}
		packet, err := readMessage(t.client)
		if err != nil {
			break
		}
		switch classify(packet) {
		case drop:
			t.s.metrics.dropped.Inc()
		case ours:
			t.slots <- struct{}{}
			t.tasks.Go(func() {
				defer func() { <-t.slots }()
				if answer := t.s.answer(ctx, packet, false); answer != nil {
					t.tell(answer)
				}
			})
		case forward:
			if err := t.forward(ctx, packet); err != nil {
				t.s.metrics.forwarded[endFailed].Inc()
				t.s.log.Debug("dns question could not be forwarded", "err", err)
				if answer := servfail(packet); answer != nil {
					t.tell(answer)
				}
			}
		}
	}
	// What was asked is still answered: a client may end its side first.
	t.end()
	t.tasks.Wait()
	_ = t.client.Close()
}

// forward sends packet to a server, connecting to one when there is no connection.
func (t *stream) forward(ctx context.Context, packet []byte) error {
	t.mu.Lock()
	far := t.far
	if far != nil {
		t.pending++
	}
	t.mu.Unlock()
	if far == nil {
		var err error
		if far, err = t.s.dialTCP(ctx); err != nil {
			return err
		}
		t.mu.Lock()
		t.far, t.pending = far, 1
		t.mu.Unlock()
		if ctx.Err() != nil {
			t.abort() // which may have come before there was a far
		}
		t.tasks.Go(func() { t.copyBack(far) })
	}
	_ = far.SetWriteDeadline(time.Now().Add(writeLimit))
	// Its fate is copyBack's to tell: the server has closed, most likely.
	_ = writeMessage(far, packet)
	return nil
}

// copyBack passes what far says to the client until far ends. When questions are
// then without an answer, the client's connection ends as far did.
func (t *stream) copyBack(far net.Conn) {
	for {
		b, err := readMessage(far)
		t.mu.Lock()
		if err != nil {
			broken := t.pending > 0
			t.far = nil
			t.mu.Unlock()
			_ = far.Close()
			if broken {
				t.s.metrics.forwarded[endFailed].Inc()
				_ = t.client.Close()
			}
			return
		}
		t.pending = max(t.pending-1, 0)
		over := t.ending && t.pending == 0
		t.mu.Unlock()
		t.s.metrics.forwarded[endAnswered].Inc()
		t.tell(b)
		if over {
			_ = far.SetReadDeadline(time.Unix(1, 0))
		}
	}
}

// end says that no more questions come: the connection to a server closes when it
// has answered, or soon.
func (t *stream) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ending = true
	if t.far == nil {
		return
	}
	deadline := time.Unix(1, 0)
	if t.pending > 0 {
		deadline = time.Now().Add(forwardLimit)
	}
	_ = t.far.SetReadDeadline(deadline)
}

// abort ends the connection now, whoever waits for what.
func (t *stream) abort() {
	_ = t.client.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.far != nil {
		_ = t.far.Close()
	}
}

// tell writes a message to the client. A client that does not take it is gone.
func (t *stream) tell(b []byte) {
	t.writing.Lock()
	defer t.writing.Unlock()
	_ = t.client.SetWriteDeadline(time.Now().Add(writeLimit))
	if writeMessage(t.client, b) != nil {
		_ = t.client.Close()
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ending {
		_ = t.client.SetReadDeadline(time.Now().Add(tcpIdle))
	}
}

// dialTCP connects to the first server that takes it.
func (s *Server) dialTCP(ctx context.Context) (net.Conn, error) {
	servers := s.cfg.Upstreams
	last := errNoServers
	first := int(s.preferred.Load())
	for i := range servers {
		d := net.Dialer{Timeout: dialLimit}
		conn, err := d.DialContext(ctx, "tcp", servers[(first+i)%len(servers)].String())
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}

// readMessage reads one message with its length in front (RFC 1035 §4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:])) // at most 64 KiB
	_, err := io.ReadFull(r, b)
	return b, err
}

// writeMessage writes one message with its length in front, at once.
func writeMessage(w io.Writer, b []byte) error {
	out := binary.BigEndian.AppendUint16(make([]byte, 0, len(b)+2), uint16(len(b)))
	_, err := w.Write(append(out, b...))
	return err
}
