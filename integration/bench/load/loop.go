package load

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what is asked, of whom, and how often.
type Options struct {
	Protocol    Protocol
	Address     netip.AddrPort
	Authority   string // who is asked
	Answer      string // the body of every answer
	Connections int
	Streams     int           // at most, at a time on each connection; 1 with HTTP/1.1
	Rate        float64       // requests a second; 0: a new one as soon as one is answered
	Duration    time.Duration // of the load
	Timeout     time.Duration // an answer that takes longer is an error
	Reconnect   bool          // a connection for each request, with HTTP/1.1
}

// Result is what a load saw.
type Result struct {
	Requests uint64 // answered within the duration
	Duration time.Duration
	P50, P99 time.Duration // from when a request was due to the end of its answer
}

// loop is one thread with all connections.
type loop struct {
	Options
	epoll     int
	conns     []*conn
	timer     int // that wakes it whenever a request is due, where there is a rate
	turn      int // the connection that is asked next, where there is a rate
	began     time.Time
	due       uint64 // requests that have begun, where there is a rate
	latencies []time.Duration
	buffer    []byte
}

// conn is one connection.
type conn struct {
	fd     int
	speaks speaker
	rest   []byte // that was read and is no whole message yet
	out    []byte // not written yet
	begun  map[uint32]time.Time
}

// Run makes a load. A request that fails, is late or is answered with anything
// else than what Options says ends it with an error.
func Run(o Options) (Result, error) {
	l := &loop{Options: o, buffer: make([]byte, 256<<10)}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return Result{}, err
	}
	defer l.close()
	for i := range o.Connections {
		c := &conn{fd: -1}
		l.conns = append(l.conns, c)
		if err := l.open(c, i); err != nil {
			return Result{}, err
		}
	}
	if o.Rate > 0 {
		if err := l.addTimer(); err != nil {
			return Result{}, err
		}
	}
	l.began = time.Now()
	took, err := l.run()
	if err != nil {
		return Result{}, err
	}
	if len(l.latencies) == 0 {
		return Result{}, errors.New("no request was answered")
	}
	slices.Sort(l.latencies)
	n := len(l.latencies)
	return Result{Requests: uint64(n), Duration: took, P50: l.latencies[n/2], P99: l.latencies[n*99/100]}, nil
}

func (l *loop) close() {
	for _, c := range l.conns {
		_ = unix.Close(c.fd) // nothing is lost by it
	}
	if l.timer > 0 {
		_ = unix.Close(l.timer)
	}
	_ = unix.Close(l.epoll)
}

// timerID is what epoll calls the timer by; connections have their index.
const timerID = -1

// addTimer wakes the loop whenever a request is due.
func (l *loop) addTimer() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	every := unix.NsecToTimespec(int64(float64(time.Second) / l.Rate))
	err = unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil)
	if err == nil {
		err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: timerID})
	}
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("timerfd: %w", err)
	}
	l.timer = fd
	return nil
}

// open connects c, anew if it was connected, without waiting for it.
func (l *loop) open(c *conn, index int) error {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	*c = conn{fd: fd, speaks: l.Protocol.client(l.Options), begun: map[uint32]time.Time{}}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(l.Address.Port()), Addr: l.Address.Addr().As4()})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect to %v: %w", l.Address, err)
	}
	c.out = c.speaks.hello(c.out)
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd,
		&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(index)})
}

// run serves events until the time is up.
func (l *loop) run() (time.Duration, error) {
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(l.epoll, events, int(l.Timeout/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		now := time.Now()
		if took := now.Sub(l.began); took >= l.Duration && (len(l.latencies) > 0 || took >= l.Duration+l.Timeout) { // a machine may stand still for all of a short one
			return took, l.late(now)
		}
		if n == 0 && err == nil {
			return 0, fmt.Errorf("%v answers nothing for %v", l.Address, l.Timeout)
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd == timerID {
				_, _ = unix.Read(l.timer, l.buffer[:8]) // how often it went off, which is not needed
				continue
			}
			if err := l.serve(l.conns[e.Fd], e.Events, now); err != nil {
				return 0, err
			}
		}
		if l.Rate > 0 {
			if err := l.begin(now); err != nil {
				return 0, err
			}
		}
	}
}

// late says whether a request should have been answered before.
func (l *loop) late(now time.Time) error {
	for _, c := range l.conns {
		for _, begun := range c.begun {
			if now.Sub(begun) > l.Timeout {
				return fmt.Errorf("no answer for %v", now.Sub(begun))
			}
		}
	}
	return nil
}

// begin begins the requests that are due by now, as far as there is room for them.
func (l *loop) begin(now time.Time) error {
	for l.due < uint64(now.Sub(l.began).Seconds()*l.Rate) {
		c := l.free()
		if c == nil {
			return nil // they wait, and their waiting counts
		}
		at := l.began.Add(time.Duration(float64(l.due+1) / l.Rate * float64(time.Second)))
		l.due++
		l.request(c, at)
		if err := c.flush(); err != nil {
			return err
		}
	}
	return nil
}

// free returns a connection that has room for a request.
func (l *loop) free() *conn {
	for range l.conns {
		c := l.conns[l.turn]
		l.turn = (l.turn + 1) % len(l.conns)
		if l.room(c) {
			return c
		}
	}
	return nil
}

func (l *loop) room(c *conn) bool { return len(c.begun) < l.Streams && c.speaks.ready() }

func (l *loop) request(c *conn, at time.Time) {
	var id uint32
	c.out, id = c.speaks.request(c.out)
	c.begun[id] = at
}

// serve reads what there is, asks what may be asked, and writes it at once.
func (l *loop) serve(c *conn, events uint32, now time.Time) error {
	closed := false
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		var err error
		if closed, err = l.read(c, now); err != nil {
			return err
		}
	}
	if closed || l.Reconnect && len(c.begun) == 0 && c.speaks.spent() {
		if len(c.begun) > 0 || !l.Reconnect {
			return fmt.Errorf("%v closed a connection that was in use", l.Address)
		}
		return l.open(c, slices.Index(l.conns, c))
	}
	if l.Rate == 0 {
		for l.room(c) && !(l.Reconnect && c.speaks.spent()) {
			l.request(c, now)
		}
	}
	return c.flush()
}

// read reads all there is; closed says that this is the end.
func (l *loop) read(c *conn, now time.Time) (closed bool, err error) {
	for {
		n := copy(l.buffer, c.rest)
		got, err := unix.Read(c.fd, l.buffer[n:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, fmt.Errorf("read from %v: %w", l.Address, err)
		case got == 0:
			return true, nil
		}
		whole := n+got == len(l.buffer)
		used, err := c.speaks.read(l.buffer[:n+got], &c.out, func(id uint32) {
			l.latencies = append(l.latencies, now.Sub(c.begun[id]))
			delete(c.begun, id)
		})
		if err != nil {
			return false, fmt.Errorf("%v: %w", l.Address, err)
		}
		c.rest = append(c.rest[:0], l.buffer[used:n+got]...)
		if !whole {
			return false, nil // what comes later is an event of its own
		}
	}
}

// flush writes what there is to write; the rest when there is room.
func (c *conn) flush() error {
	for len(c.out) > 0 {
		n, err := unix.Write(c.fd, c.out)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("write: %w", err)
		}
		c.out = c.out[:copy(c.out, c.out[n:])]
	}
	return nil
}
