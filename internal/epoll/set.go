package epoll

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrOver is why nobody can wait in a set: it is not open any more, or not yet.
var ErrOver = errors.New("the epoll set is not open")

// tick is how often it is looked who has waited for too long.
const tick = time.Second

// batch is how many sockets are taken out of the set at a time.
const batch = 128

// Set is an epoll set and who waits in it. The zero value is one that is over until
// [Set.Open]; the other methods may be called concurrently. Nothing bounds it but the sockets
// that are open: each is in it once.
type Set struct {
	file   *os.File // the set's descriptor, which the runtime waits for
	raw    syscall.RawConn
	events [batch]unix.EpollEvent // of Run

	mu     sync.Mutex
	fd     int // while open
	open   bool
	places []*Place // by number; nil: free
	free   []int32  // numbers
	turn   int32    // of the next wait: tells an event of an earlier one at the same place
}

// Place is where one waits, for one socket at a time. The zero value is ready. The set's lock
// guards it.
type Place struct {
	f      func() // nil: nobody waits
	until  time.Time
	number int32
	turn   int32
}

// Open lets sockets in. [Set.Run] must follow, which ends that, or [Set.Close].
func (s *Set) Open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true) // for os.NewFile: the runtime waits for it
	}
	if err != nil {
		return fmt.Errorf("make an epoll set: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file, s.fd = os.NewFile(uintptr(fd), "epoll"), fd
	if s.raw, err = s.file.SyscallConn(); err != nil {
		_ = s.file.Close() // nothing was written
		return fmt.Errorf("make an epoll set: %w", err)
	}
	s.open = true
	return nil
}

// Run waits until ctx ends. Then it wakes all who wait, and nobody can wait any more.
func (s *Set) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Now()) }) // fails on a closed set only
	defer s.Close()
	defer stop()
	n, due := 0, time.Now()
	look := func(fd uintptr) bool {
		var err error
		n, err = unix.EpollWait(int(fd), s.events[:], 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	}
	var ready []func()
	for now := time.Now(); ; now = time.Now() {
		if !now.Before(due) {
			ready = s.takeLate(ready[:0], now)
			due = now.Add(tick)
			_ = s.file.SetReadDeadline(due) // fails on a closed set only
		}
		if ctx.Err() != nil {
			return
		}
		if n = 0; s.raw.Read(look) == nil {
			ready = s.take(ready, n)
		}
		for i, f := range ready {
			f()
			ready[i] = nil
		}
		ready = ready[:0]
	}
}

// takeLate appends who has waited for as long as it may.
func (s *Set) takeLate(late []func(), now time.Time) []func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.places {
		if p != nil && !p.until.IsZero() && !now.Before(p.until) {
			late = append(late, s.leaveLocked(p))
		}
	}
	return late
}

// take appends who is to be called for the first n events.
func (s *Set) take(ready []func(), n int) []func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ev := range s.events[:max(n, 0)] {
		if p := s.places[ev.Fd]; p != nil && p.turn == ev.Pad {
			ready = append(ready, s.leaveLocked(p))
		}
	}
	return ready
}

// Wait has f called once when conn can be read, its end and its errors included, by
// [Set.Wake], or a moment after until, zero: never. f runs on the set's goroutine, perhaps before Wait returns, and must not wait.
// With an error it is not called. Nobody reads conn meanwhile, and nobody waits at p.
func (s *Set) Wait(p *Place, conn *net.TCPConn, until time.Time, f func()) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return ErrOver
	}
	s.enterLocked(p, f)
	p.until = until
	var failed error
	err = raw.Control(func(fd uintptr) { failed = s.armLocked(int(fd), p) })
	if err == nil {
		err = failed
	}
	if err != nil {
		s.leaveLocked(p)
		return fmt.Errorf("wait for a socket: %w", err)
	}
	return nil
}

// armLocked has the kernel say once when fd can be read.
func (s *Set) armLocked(fd int, p *Place) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: p.number, Pad: p.turn}
	err := unix.EpollCtl(s.fd, unix.EPOLL_CTL_MOD, fd, &ev)
	if errors.Is(err, unix.ENOENT) { // for the first time
		err = unix.EpollCtl(s.fd, unix.EPOLL_CTL_ADD, fd, &ev)
	}
	return err
}

// Wake calls f of who waits at p now, if somebody does.
func (s *Set) Wake(p *Place) {
	s.mu.Lock()
	f := p.f
	if f != nil {
		s.leaveLocked(p)
	}
	s.mu.Unlock()
	if f != nil {
		f()
	}
}

// Len returns how many wait.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.places) - len(s.free)
}

func (s *Set) enterLocked(p *Place, f func()) {
	p.f = f
	p.turn, s.turn = s.turn, s.turn+1
	if last := len(s.free) - 1; last >= 0 {
		p.number, s.free = s.free[last], s.free[:last]
	} else {
		p.number = int32(len(s.places))
		s.places = append(s.places, nil)
	}
	s.places[p.number] = p
}

func (s *Set) leaveLocked(p *Place) (f func()) {
	f, p.f = p.f, nil
	s.places[p.number] = nil
	s.free = append(s.free, p.number)
	return f
}

// Close ends a set that does not run, and wakes all who wait.
func (s *Set) Close() {
	s.mu.Lock()
	s.open = false
	var all []func()
	for _, p := range s.places {
		if p != nil {
			all = append(all, s.leaveLocked(p))
		}
	}
	s.mu.Unlock()
	_ = s.file.Close() // nothing was written
	for _, f := range all {
		f()
	}
}
