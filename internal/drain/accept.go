package drain

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/limit"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

const (
	// acceptPause is the wait after an Accept that failed: long enough for what was
	// shed to be closed.
	acceptPause = 10 * time.Millisecond

	// faultInterval is the least time between two lines about such failures.
	faultInterval = time.Minute
)

// AcceptConfig says how connections are accepted.
type AcceptConfig struct {
	// Max bounds the connections served at a time. At the bound the next one ends
	// strangers, or else idle entries of the set; while all are busy it waits, and those
	// behind it in the kernel's queue. 0: no bound.
	Max int
	// Strangers counts each connection until serve says that it is known who calls.
	// Nil: that does not matter here.
	Strangers *limit.Strangers
	// Short is called when there is no descriptor for the next connection, before
	// strangers and idle entries of the set are ended: whoever else holds such
	// connections closes some. May be nil. It must not block.
	Short func()
	// Failed is called for every connection that could not be accepted. May be nil.
	Failed func()
	Log    *slog.Logger // nil: silent
}

// Accept serves the connections of l, each in a goroutine of its own that closes it
// afterwards, until l is closed or ctx has ended. serve calls [limit.Stranger.Known]
// once its peer has said who it is; a stranger may be cut at any time.
// When descriptors run out, strangers and idle connections go first; then callers are
// refused at once with a reset, which tells them more than silence.
func (s *Set) Accept(ctx context.Context, l net.Listener, cfg AcceptConfig, serve func(net.Conn, *limit.Stranger)) {
	s.AcceptRest(ctx, l, cfg, func(conn net.Conn, who *limit.Stranger, over func()) {
		defer over()
		serve(conn, who)
	})
}

// AcceptRest is [Set.Accept] for connections that may be idle for long: serve may return
// before the connection is over, and over is called once, when it is. Wait waits for that.
func (s *Set) AcceptRest(ctx context.Context, l net.Listener, cfg AcceptConfig, serve func(conn net.Conn, who *limit.Stranger, over func())) {
	a := acceptor{set: s, cfg: cfg, listener: l, log: cfg.Log}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.reserve()
	defer a.release()
	var slots chan struct{}
	if cfg.Max > 0 {
		slots = make(chan struct{}, cfg.Max)
	}
	for {
		conn := a.next(ctx)
		if conn == nil {
			return
		}
		if slots != nil {
			select {
			case slots <- struct{}{}:
			default:
				if cfg.Strangers.Shed() == 0 {
					s.Shed()
				}
				slots <- struct{}{}
			}
		}
		who := cfg.Strangers.Meet(conn.RemoteAddr(), func(error) { relay.Abort(conn) })
		s.running.Add(1)
		go serve(conn, who, func() {
			who.Known()
			_ = conn.Close() // a second time, mostly
			if slots != nil {
				<-slots
			}
			s.running.Done()
		})
	}
}

// acceptor is the state of one Accept.
type acceptor struct {
	set      *Set
	cfg      AcceptConfig
	listener net.Listener
	log      *slog.Logger

	spare  *os.File // a descriptor to accept and refuse with when there is no other
	logged time.Time
	failed int // since logged
}

// next returns the next connection, nil when there will be none.
func (a *acceptor) next(ctx context.Context) net.Conn {
	for short := false; ; {
		conn, err := a.listener.Accept()
		switch {
		case err == nil:
			return conn
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return nil
		}
		a.report(err)
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			if a.cfg.Short != nil {
				a.cfg.Short()
			}
			if a.cfg.Strangers.Shed()+a.set.Shed() == 0 && short {
				a.refuse()
			}
			short = true
		}
		select {
		case <-time.After(acceptPause):
		case <-ctx.Done():
		}
	}
}

// report counts a failure, and logs the first and then one line a minute.
func (a *acceptor) report(err error) {
	if a.cfg.Failed != nil {
		a.cfg.Failed()
	}
	a.failed++
	if now := time.Now(); now.Sub(a.logged) >= faultInterval {
		a.log.Warn("cannot accept connections: raise the limit of open files if this persists",
			"addr", a.listener.Addr().String(), "failed", a.failed, "err", err)
		a.logged, a.failed = now, 0
	}
}

// refuse resets the connection that waits longest, by means of the spare descriptor.
func (a *acceptor) refuse() {
	a.release()
	if d, ok := a.listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(time.Now().Add(acceptPause)) // it may have gone away meanwhile
		defer d.SetDeadline(time.Time{})               //nolint:errcheck // closed: Accept says so
		if conn, err := a.listener.Accept(); err == nil {
			relay.Abort(conn)
		}
	}
	a.reserve()
}

func (a *acceptor) reserve() {
	a.spare, _ = os.Open(os.DevNull) // without one, callers wait
}

func (a *acceptor) release() {
	if a.spare != nil {
		_ = a.spare.Close() // nothing was written
		a.spare = nil
	}
}
