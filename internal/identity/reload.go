package identity

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Run follows the files until ctx ends and then returns nil. A set that is not
// complete and good is not loaded: what was loaded last stays in use, and the
// log says why. A source that is not from files just waits.
func (s *Source) Run(ctx context.Context) error {
	if s.dir == "" {
		<-ctx.Done()
		return nil
	}
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// Without notices polling remains, so their lack is not a failure of Run.
	var events <-chan fsnotify.Event
	var faults <-chan error
	watch := func() {}
	if w, err := fsnotify.NewWatcher(); err != nil {
		log.Warn("identity files are only looked at now and then", "every", pollEvery, "err", err)
	} else {
		defer func() { _ = w.Close() }() // it only ends the notices
		events, faults = w.Events, w.Errors
		watch = func() { _ = w.Add(s.dir) } // no effect on a live watch
	}

	r := reloader{source: s, log: log}
	watch()
	poll := time.NewTimer(r.look()) // what changed since Open
	defer poll.Stop()
	quiet := time.NewTimer(settle)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-events:
			if !ok {
				events = nil // only polling is left
			}
			quiet.Reset(settle)
		case _, ok := <-faults: // notices were lost
			if !ok {
				faults = nil
			}
			quiet.Reset(settle)
		case <-quiet.C:
			poll.Reset(r.look())
		case <-poll.C:
			watch() // the directory may have been replaced
			poll.Reset(r.look())
		}
	}
}

// reloader is the state of one Run.
type reloader struct {
	source *Source
	log    *slog.Logger
	warned time.Time // when expiry was last warned about
	ended  bool      // that warning said that it is past
}

// look loads what has changed, warns of what expires, and returns when to look
// again.
func (r *reloader) look() time.Duration {
	r.reload()
	now := time.Now()
	r.warnExpiry(now)
	if left := r.source.NotAfter().Sub(now); left >= 0 && left < pollEvery {
		return left + time.Millisecond
	}
	return pollEvery
}

// reload loads the files when they differ from what is in use and are good.
func (r *reloader) reload() {
	s := r.source
	changed, err := s.Reload()
	switch {
	case err != nil:
		if err.Error() != s.fault.Load() {
			s.fault.Set(err.Error())
			s.metrics.refused.Inc()
			r.log.Error("identity files are bad, the last ones that were good stay in use", "not_after", s.NotAfter(), "err", err)
		}
		return
	case changed:
		r.warned = time.Time{}
		s.metrics.reloaded.Inc()
		r.log.Info("identity reloaded", "id", s.ID().String(), "not_after", s.NotAfter())
	case s.fault.Load() != "":
		r.log.Info("identity files are those in use again", "id", s.ID().String(), "not_after", s.NotAfter())
	}
	s.fault.Set("")
}

// Reload reads the files now, as Run does when they change, and reports whether
// others are in use afterwards. It returns why they are not loaded.
func (s *Source) Reload() (changed bool, err error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	old := s.now.Load()
	raw, err := readFiles(s.dir)
	if err != nil || raw.whole() == old.raw {
		return false, err
	}
	m, err := parseFiles(s.dir, raw)
	if err != nil {
		return false, err
	}
	if m.id != old.id {
		return false, fmt.Errorf("identity: the certificate in %s is now that of %s, this process is %s: restart it to change who it is", s.dir, m.id, old.id)
	}
	s.now.Set(m)
	return true, nil
}

// warnExpiry says that the certificate in use expires soon, or has expired: at
// once when that changes, and again at every warnEvery.
func (r *reloader) warnExpiry(now time.Time) {
	m := r.source.now.Load()
	left, ended := m.ends.Sub(now), m.expired(now)
	if left > warnBefore || now.Sub(r.warned) < warnEvery && r.ended == (ended != nil) {
		return
	}
	r.warned, r.ended = now, ended != nil
	if ended != nil {
		r.log.Error("certificate has expired: no peer accepts this process", "not_after", m.ends, "err", ended)
		return
	}
	r.log.Warn("certificate expires soon: issue a new one with 'isthmus pki'", "not_after", m.ends, "left", left.Round(time.Minute))
}
