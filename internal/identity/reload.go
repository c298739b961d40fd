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

	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	quiet := time.NewTimer(settle)
	quiet.Stop()
	defer quiet.Stop()

	r := reloader{source: s, log: log}
	watch()
	r.reload() // what changed since Open
	r.warnExpiry(time.Now())
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
			r.reload()
		case now := <-poll.C:
			watch() // the directory may have been replaced
			r.reload()
			r.warnExpiry(now)
		}
	}
}

// reloader is the state of one Run.
type reloader struct {
	source *Source
	log    *slog.Logger
	fault  string    // of the last reload, so that it is logged once
	warned time.Time // when expiry was last warned about
}

// reload loads the files when they differ from what is in use and are good.
func (r *reloader) reload() {
	s, old := r.source, r.source.now.Load()
	m, err := load(s.dir)
	if err == nil && m.id != old.id {
		err = fmt.Errorf("identity: the certificate in %s is now that of %s, this process is %s: restart it to change who it is", s.dir, m.id, old.id)
	}
	switch {
	case err != nil:
		if err.Error() != r.fault {
			r.fault = err.Error()
			s.metrics.refused.Inc()
			r.log.Error("identity files are bad, the last good ones stay in use", "err", err)
		}
	case m.raw != old.raw:
		r.fault = ""
		s.replace(m)
		s.metrics.reloaded.Inc()
		r.log.Info("identity reloaded", "id", m.id.String(), "notAfter", m.tls.Leaf.NotAfter)
	default:
		r.fault = ""
	}
}

func (r *reloader) warnExpiry(now time.Time) {
	left := r.source.NotAfter().Sub(now)
	if left > warnBefore || now.Sub(r.warned) < warnEvery {
		return
	}
	r.warned = now
	if left <= 0 {
		r.log.Error("certificate has expired: peers refuse this process; issue a new one with 'isthmus pki'", "notAfter", r.source.NotAfter())
		return
	}
	r.log.Warn("certificate expires soon: issue a new one with 'isthmus pki'", "notAfter", r.source.NotAfter(), "left", left.Round(time.Minute))
}
