package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Open reads cert.pem, key.pem and roots.pem from dir, which the source follows. Its
// error names the file that is wrong and the command that makes a right one.
func Open(dir string) (*Source, error) {
	raw, err := readFiles(dir)
	if err != nil {
		return nil, err
	}
	m, err := parseFiles(dir, raw)
	if err != nil {
		return nil, err
	}
	r := &reloader{dir: dir, raw: raw.whole()}
	s, err := newSource(m, Origin{Follow: r.follow})
	if err != nil {
		return nil, inFile(dir, certFile, err)
	}
	return s, nil
}

// reloader follows an identity directory. Its methods are follow's goroutine's.
type reloader struct {
	dir string
	raw string // the files' content that is in use, to see a change
}

// follow loads the files whenever they change, until ctx ends. A set that is not
// complete and good is not loaded: what was loaded last stays in use, and the
// log says why.
func (r *reloader) follow(ctx context.Context, s *Source) {
	// Without notices polling remains, so their lack is not a failure.
	var events <-chan fsnotify.Event
	var faults <-chan error
	watch := func() {}
	if w, err := fsnotify.NewWatcher(); err != nil {
		s.log.Warn("identity files are only looked at now and then", "every", pollEvery, "err", err)
	} else {
		defer func() { _ = w.Close() }() // it only ends the notices
		events, faults = w.Events, w.Errors
		watch = func() { _ = w.Add(r.dir) } // no effect on a live watch
	}

	watch()
	r.look(s) // what changed since Open
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	quiet := time.NewTimer(settle)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
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
			r.look(s)
		case <-poll.C:
			watch() // the directory may have been replaced
			r.look(s)
		}
	}
}

// look loads the files when they differ from what is in use and are good.
func (r *reloader) look(s *Source) {
	raw, err := readFiles(r.dir)
	if err == nil && raw.whole() == r.raw {
		s.Fine()
		return
	}
	if err == nil {
		err = r.load(s, raw)
	}
	if err != nil {
		s.Fail(fmt.Errorf("identity files are bad: %w", err))
	}
}

func (r *reloader) load(s *Source, raw files) error {
	m, err := parseFiles(r.dir, raw)
	if err != nil {
		return err
	}
	if err := s.Replace(m); err != nil {
		return inFile(r.dir, certFile, err)
	}
	r.raw = raw.whole()
	return nil
}
