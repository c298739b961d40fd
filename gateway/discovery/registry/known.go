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
	"time"

	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// knownFile is the JSON form of the state file.
type knownFile struct {
	Version int   `json:"version"` // 1
	Known   []key `json:"known"`
}

// knowLocked notes a registration that is live.
func (s *Server) knowLocked(k key) {
	s.known[k] = time.Time{}
	s.touchLocked()
	if _, ok := s.awaited[k]; ok {
		delete(s.awaited, k)
		if len(s.awaited) == 0 {
			s.settleLocked()
		}
	}
}

// unknowLocked notes the end of a registration. One that broke off stays known for
// a while, as far as there is room: it may be the gateway that is going down.
func (s *Server) unknowLocked(k key, withdrawn bool) {
	if withdrawn || s.path == "" || len(s.known) > maxRegistrations {
		delete(s.known, k)
	} else {
		s.known[k] = time.Now()
	}
	s.touchLocked()
}

func (s *Server) touchLocked() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

func (s *Server) settleLocked() {
	if s.settled {
		return
	}
	s.settled = true
	clear(s.awaited)
	s.changedLocked()
}

// keep is Run.
func (s *Server) keep(ctx context.Context) error {
	if s.path == "" {
		<-ctx.Done()
		return nil
	}
	before, err := readKnown(s.path)
	if err != nil {
		s.log.Warn("which sidecars were registered before is not known", "err", err)
	}
	s.mu.Lock()
	for _, k := range before {
		if _, live := s.known[k]; !live {
			s.known[k] = time.Now()
			s.awaited[k] = struct{}{}
		}
	}
	if len(s.awaited) == 0 {
		s.settleLocked()
	}
	s.mu.Unlock()

	// Also at the end: what broke off because this gateway stops is still known.
	fault := "" // of the last write, so that a full disk is logged once
	write := func() {
		err := s.save()
		if err != nil && err.Error() != fault {
			s.log.Warn("which sidecars are registered is not kept on disk: trying on", "err", err)
		}
		fault = fmt.Sprint(err)
	}
	defer write()

	settle := time.NewTimer(settleAfter)
	defer settle.Stop()
	expire := time.NewTicker(knownFor / 2)
	defer expire.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-settle.C:
			s.mu.Lock()
			if n := len(s.awaited); n > 0 {
				s.log.Warn("not every sidecar of before the restart has come back", "missing", n)
			}
			s.settleLocked()
			s.mu.Unlock()
			continue
		case <-expire.C:
		case <-s.dirty:
		}
		write()
		pause := time.NewTimer(saveInterval)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-settle.C:
			pause.Stop()
			settle.Reset(0)
		case <-pause.C:
		}
	}
}

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
