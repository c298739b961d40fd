package state

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// SaverConfig is what a [Saver] is made of.
type SaverConfig struct {
	// What is kept, as the log says it: "which sidecars are registered".
	What string
	// Write puts the current state on disk, whole or not at all. It is never called
	// twice at a time.
	Write func() error
	// Delay is how long a change waits for others, Interval the least time between
	// two writes, and from one that failed to the next.
	Delay, Interval time.Duration
	Log             *slog.Logger // nil: silent
}

// Saver keeps state on disk: a write follows every change, and is tried again
// until it succeeds, because a full disk has room again some day. Its methods may
// be called concurrently.
type Saver struct {
	cfg    SaverConfig
	notify Notify
	behind atomic.Bool // something changed since what was last written

	writing sync.Mutex // one Write at a time
	fault   Store[error]
}

// NewSaver returns a Saver of state that is on disk as it is.
func NewSaver(cfg SaverConfig) *Saver {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Saver{cfg: cfg, notify: NewNotify()}
}

// Changed says that the state is not what was written. It never blocks.
func (s *Saver) Changed() {
	s.behind.Store(true)
	s.notify.Notify()
}

// Err returns why the last write failed; nil when the state is on disk, or will be
// in a moment.
func (s *Saver) Err() error { return s.fault.Load() }

// Run writes what changes until ctx ends, and then once more.
func (s *Saver) Run(ctx context.Context) {
	defer s.Save() //nolint:errcheck // logged, and nobody is left to try again
	for {
		select {
		case <-s.notify.C():
		case <-ctx.Done():
			return
		}
		if !Pause(ctx, s.cfg.Delay) {
			return
		}
		_ = s.Save() // logged; it is tried again
		if !Pause(ctx, s.cfg.Interval) {
			return
		}
	}
}

// Save writes the state now if it has changed. A fault is logged when it is a new
// one, and so is its end.
func (s *Saver) Save() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if !s.behind.Swap(false) {
		return s.fault.Load()
	}
	err := s.cfg.Write()
	last := s.fault.Load()
	switch {
	case err != nil:
		s.Changed()
		if last == nil || last.Error() != err.Error() {
			s.cfg.Log.Warn(s.cfg.What+": not kept on disk, and lost with this process: make room or mend the folder, it is tried again", "err", err)
		}
	case last != nil:
		s.cfg.Log.Info(s.cfg.What + ": kept on disk again")
	}
	s.fault.Set(err)
	return err
}
