package limit

import (
	"container/list"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// turnsPerCPU is how many handshakes compute at a time for each CPU: one, and one that
// is ready when the first waits for the kernel.
const turnsPerCPU = 2

// errGaveUp is what a handshake reads whose peer went away while it waited.
var errGaveUp = errors.New("the peer went away before its turn came")

// Turns lets a few handshakes compute at a time. Its methods may be called
// concurrently.
type Turns struct {
	mu      sync.Mutex
	free    int
	waiting int
	sources map[Source]*list.Element // of ring, those with somebody who waits
	ring    *list.List               // of *queue: the next to have its turn is first
}

// queue is who waits of one source: the oldest is first.
type queue struct {
	source Source
	who    list.List // of chan struct{}, closed when its turn has come
}

// NewTurns returns turns for this machine.
func NewTurns() *Turns {
	return &Turns{free: turnsPerCPU * runtime.GOMAXPROCS(0), sources: map[Source]*list.Element{}, ring: list.New()}
}

// take waits for a turn of a source; again says that the handshake had one before,
// and goes before those of its source that had none.
func (t *Turns) take(s Source, again bool) (waited bool) {
	t.mu.Lock()
	if t.free > 0 && t.waiting == 0 {
		t.free--
		t.mu.Unlock()
		return false
	}
	e := t.sources[s]
	if e == nil {
		e = t.ring.PushBack(&queue{source: s})
		t.sources[s] = e
	}
	mine := make(chan struct{})
	if q := e.Value.(*queue); again {
		q.who.PushFront(mine)
	} else {
		q.who.PushBack(mine)
	}
	t.waiting++
	t.mu.Unlock()
	<-mine // whoever has a turn computes, and gives it on
	return true
}

// give ends a turn and begins the next one.
func (t *Turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.ring.Front()
	if e == nil {
		t.free++
		return
	}
	q := e.Value.(*queue)
	close(q.who.Remove(q.who.Front()).(chan struct{}))
	t.waiting--
	if q.who.Len() > 0 {
		t.ring.MoveToBack(e)
		return
	}
	t.ring.Remove(e)
	delete(t.sources, q.source)
}

func (t *Turns) waitingNow() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting
}

// Handshake runs f, which shakes hands as a server on the connection that it is given.
// f has a turn whenever it computes: from each Read that gave something to the next
// one. So who says nothing, or half of what it should, holds no turn. All its Reads
// together may wait patience for the peer; waiting for turns does not count. It leaves
// deadlines of zero.
func (t *Turns) Handshake(c net.Conn, patience time.Duration, f func(net.Conn) error) error {
	h := &handshake{Conn: c, turns: t, source: SourceOf(c.RemoteAddr()), patience: patience}
	_ = c.SetWriteDeadline(time.Now().Add(patience)) // a broken connection says so on Read
	err := f(h)
	h.end()
	_ = c.SetDeadline(time.Time{})
	return err
}

// handshake is a connection while hands are shaken on it, and a plain one afterwards.
// It is read by one goroutine at a time.
type handshake struct {
	net.Conn
	turns    *Turns // nil when it is over
	source   Source
	patience time.Duration // what is left of it
	holds    bool          // a turn
	begun    bool          // it had one
}

// end gives the turn back. The connection goes on without.
func (h *handshake) end() {
	if h.holds {
		h.turns.give()
	}
	h.holds, h.turns = false, nil
}

// Read reads, and waits for a turn when there is something to compute.
func (h *handshake) Read(b []byte) (int, error) {
	if h.turns == nil {
		return h.Conn.Read(b)
	}
	if h.holds {
		h.turns.give()
		h.holds = false
	}
	if h.patience <= 0 {
		return 0, os.ErrDeadlineExceeded
	}
	began := time.Now()
	_ = h.Conn.SetReadDeadline(began.Add(h.patience))
	n, err := h.Conn.Read(b)
	h.patience -= time.Since(began)
	if n == 0 {
		return n, err
	}
	waited := h.turns.take(h.source, h.begun)
	h.holds, h.begun = true, true
	if waited && gaveUp(h.Conn) {
		return 0, errGaveUp
	}
	_ = h.Conn.SetWriteDeadline(time.Now().Add(max(h.patience, time.Second)))
	return n, err
}

// NetConn returns the connection below, for who aborts it.
func (h *handshake) NetConn() net.Conn { return h.Conn }

// gaveUp reports whether the TCP connection below c has been closed or reset by its
// peer: what was read of it is worth no computing.
func gaveUp(c net.Conn) bool {
	for {
		if tcp, ok := c.(*net.TCPConn); ok {
			return state(tcp) != unix.BPF_TCP_ESTABLISHED
		}
		below, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return false
		}
		c = below.NetConn()
	}
}

// state returns the state of a TCP connection.
func state(tcp *net.TCPConn) uint8 {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return unix.BPF_TCP_CLOSE
	}
	s := uint8(unix.BPF_TCP_CLOSE)
	_ = raw.Control(func(fd uintptr) { // closed: as it says
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			s = info.State
		}
	})
	return s
}
