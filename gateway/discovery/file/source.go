package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway/discovery"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

// Source is a watched directory of resource files. Create it with [New].
type Source struct {
	dir      string
	moves    chan move
	log      *slog.Logger
	metrics  metrics
	store    state.Store[[]discovery.Described]
	policies state.Store[[]policy.Policy]
	routes   state.Store[*traffic.Set]
	unknown  state.Store[string] // why the policies, as the files have them now, are not in force
	statuses state.Store[[]Status]
}

// Status is the state of one resource file.
type Status struct {
	File     string    // name within the directory; "." is the directory itself
	Services int       // that are in use from it
	Loaded   time.Time // when what is in use was read; zero: never
	Err      string    // what is wrong with it now, one fault a line; what is in use is older
}

// move has a running source follow another directory.
type move struct {
	dir  string
	done chan<- error
}

// New returns the source for dir and opens nothing; without a dir it has no
// files. A nil log discards, a nil registerer means that its metrics are not
// registered.
func New(dir string, log *slog.Logger, registerer prometheus.Registerer) (*Source, error) {
	m, err := newMetrics(registerer)
	return &Source{dir: dir, moves: make(chan move), log: cmp.Or(log, slog.New(slog.DiscardHandler)), metrics: m}, err
}

// Snapshot returns all services that the files describe, sorted by name, and a
// channel that closes when they are past. Nil until the files have been read.
func (s *Source) Snapshot() ([]discovery.Described, <-chan struct{}) { return s.store.Snapshot() }

// Policies returns all policies that the files describe, and a channel that closes when
// they are past. Nil until every file has been read well once: what is not known might
// refuse. Later the last that were known stay.
func (s *Source) Policies() ([]policy.Policy, <-chan struct{}) { return s.policies.Snapshot() }

// Routes returns all routes and grants that the files describe, and a channel that closes when
// they are past. Nil until the files have been read.
func (s *Source) Routes() (*traffic.Set, <-chan struct{}) { return s.routes.Snapshot() }

// PoliciesUnknown says why the policies as the files have them now are not in force;
// empty: they are.
func (s *Source) PoliciesUnknown() string { return s.unknown.Load() }

// Status returns the state of every file, sorted by name.
func (s *Source) Status() []Status { return s.statuses.Load() }

// Move has the source, which must run, follow another directory, or none. When that
// cannot be read it stays with the one that it has.
func (s *Source) Move(ctx context.Context, dir string) error {
	done := make(chan error, 1)
	select {
	case s.moves <- move{dir, done}:
		return <-done
	case <-ctx.Done():
		return fmt.Errorf("follow %s: %w", dir, ctx.Err())
	}
}

// Run reads the directory and follows it until ctx ends. It returns an error
// at once when the directory cannot be read, and nil otherwise: when it can no
// longer be read later, the last good state stays.
func (s *Source) Run(ctx context.Context) error {
	events, failures, done := s.watch(s.dir)
	defer func() { done() }()
	f := &folder{dir: s.dir, files: map[string]*entry{}}
	if err := s.scan(f); err != nil {
		return err
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	var still, due <-chan time.Time // nil: nothing has happened since the last scan
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			still = time.After(quiet)
			if due == nil {
				due = time.After(impatience)
			}
			continue
		case err, ok := <-failures:
			if !ok {
				failures = nil
			} else if !errors.Is(err, fsnotify.ErrEventOverflow) {
				s.log.Warn("watching resources: changes are found by looking every few seconds", "err", err)
			}
			continue
		case m := <-s.moves:
			_, err := resourceFiles(m.dir)
			if err == nil {
				done()
				events, failures, done = s.watch(m.dir)
				f = &folder{dir: m.dir, files: map[string]*entry{}}
				_ = s.scan(f) // is in the log and the status
			}
			m.done <- err
			continue
		case <-tick.C:
			if still == nil {
				_ = s.scan(f) // is in the log and the status
			}
			continue
		case <-still:
		case <-due:
		}
		still, due = nil, nil
		_ = s.scan(f)
	}
}

// watch has the kernel tell what happens in the directory. When it cannot,
// the channels are nil and polling does the work.
func (s *Source) watch(dir string) (<-chan fsnotify.Event, <-chan error, func()) {
	if dir == "" {
		return nil, nil, func() {}
	}
	w, err := fsnotify.NewWatcher()
	if err == nil {
		if err = w.Add(dir); err == nil {
			return w.Events, w.Errors, func() { _ = w.Close() }
		}
		_ = w.Close()
	}
	s.log.Warn("watching resources: changes are found by looking every few seconds", "dir", dir, "err", err)
	return nil, nil, func() {}
}

// scan reads what has changed and publishes it.
func (s *Source) scan(f *folder) error {
	before := map[string]string{}
	for _, st := range s.Status() {
		before[st.File] = st.Err
	}
	changed, err := f.scan()
	if err != nil {
		if before["."] != err.Error() {
			s.log.Error("resources: the last good state stays in use", "err", err)
		}
		s.statuses.Set(append([]Status{{File: ".", Err: err.Error()}}, f.status()...))
		return err
	}
	if _, unreadable := before["."]; !changed && !unreadable && s.store.Load() != nil {
		return nil
	}
	if before["."] != "" {
		s.log.Info("resources can be read again", "dir", f.dir)
	}
	services := f.services()
	policies, unknown := f.policies()
	routes := f.routes()
	status := f.status()
	var good, bad float64
	for _, st := range status {
		if st.Err == "" {
			good++
			if before[st.File] != "" {
				s.log.Info("resource file is used again", "file", st.File)
			}
		} else {
			bad++
			if before[st.File] != st.Err {
				s.log.Error("resource file is not used as it is now: its last good state stays in use", "file", st.File, "err", st.Err)
			}
		}
	}
	if was := s.unknown.Load(); unknown != was {
		if s.unknown.Set(unknown); unknown != "" {
			s.log.Error("policies are not known: those that were last known stay in force", "err", unknown)
		}
	}
	s.metrics.good.Set(good)
	s.metrics.bad.Set(bad)
	if unknown == "" {
		s.policies.SetIfChanged(policies)
	}
	s.statuses.Set(status)
	s.routes.SetIfChanged(routes)
	if s.store.SetIfChanged(services) && f.dir != "" {
		s.log.Info("resources are read", "dir", f.dir, "services", len(services), "files", len(status))
	}
	return nil
}
