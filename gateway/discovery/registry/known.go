package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// knownFile is the JSON form of the state file.
type knownFile struct {
	Version int   `json:"version"` // 1
	Known   []key `json:"known"`
}

// rememberLocked notes a registration that is live.
func (s *Server) rememberLocked(k key) {
	s.known[k] = time.Time{}
	s.saver.Changed()
	if _, ok := s.awaited[k]; ok {
		delete(s.awaited, k)
		if len(s.awaited) == 0 {
			s.completeLocked()
		}
	}
}

// endedLocked notes the end of a registration. One that broke off stays known for
// a while, as far as there is room: it may be the gateway that is going down.
func (s *Server) endedLocked(k key, withdrawn bool) {
	if withdrawn || s.path == "" || len(s.known) > maxRegistrations {
		delete(s.known, k)
	} else {
		s.known[k] = time.Now()
	}
	s.saver.Changed()
}

// completeLocked makes the set known: nobody is waited for any more.
func (s *Server) completeLocked() {
	if s.complete {
		return
	}
	s.complete = true
	clear(s.awaited)
	s.changedLocked()
}

// Run follows the resources, waits for the registrations of before the restart and
// keeps the state file, until ctx ends. It returns nil.
func (s *Server) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait() // also at the end: what broke off because this gateway stops is still known
	running.Go(func() { s.judge(ctx) })
	if s.path == "" {
		<-ctx.Done()
		return nil
	}
	s.restore()
	running.Go(func() { s.saver.Run(ctx) })

	late := time.NewTimer(awaitFor)
	defer late.Stop()
	expire := time.NewTicker(knownFor / 2)
	defer expire.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-expire.C:
			s.saver.Changed()
		case <-late.C:
			s.mu.Lock()
			if n := len(s.awaited); n > 0 {
				s.log.Warn("not every sidecar of before the restart has come back", "missing", n)
			}
			s.completeLocked()
			s.mu.Unlock()
		}
	}
}

// restore reads which registrations to wait for.
func (s *Server) restore() {
	before, err := readKnown(s.path)
	if err != nil {
		s.log.Warn("which sidecars were registered before is not known", "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range before {
		if _, live := s.known[k]; !live {
			s.known[k] = time.Now()
			s.awaited[k] = struct{}{}
		}
	}
	if len(s.awaited) == 0 {
		s.completeLocked()
	}
}

// StateErr returns why what is known of sidecars is not kept on disk; nil: it is.
func (s *Server) StateErr() error { return s.saver.Err() }

// save writes what is known, without what ended too long ago.
func (s *Server) save() error {
	file := knownFile{Version: 1, Known: []key{}}
	oldest := time.Now().Add(-knownFor)
	s.mu.Lock()
	for k, ended := range s.known {
		if !ended.IsZero() && ended.Before(oldest) {
			delete(s.known, k)
			continue
		}
		file.Known = append(file.Known, k)
	}
	s.mu.Unlock()
	slices.SortFunc(file.Known, func(a, b key) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Instance, b.Instance))
	})
	b, err := json.MarshalIndent(file, "", " ")
	if err != nil {
		return err
	}
	return wholefile.Write(s.path, b, 0o600)
}

// readKnown reads a state file. A missing one is empty.
func readKnown(path string) ([]key, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var file knownFile
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if file.Version != 1 {
		return nil, fmt.Errorf("read %s: version %d, this program writes 1", path, file.Version)
	}
	return file.Known, nil
}
