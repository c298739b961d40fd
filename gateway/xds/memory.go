package xds

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// memory keeps which names each identity asked for, so that a sidecar that
// starts anew (or an Envoy, which asks for "*") is told them before it asks.
type memory struct {
	path string // empty: not kept on disk
	now  func() time.Time

	mu    sync.Mutex
	asked map[string]map[string]time.Time // identity → name → when it last asked
	dirty bool                            // the file is behind
}

func newMemory(path string, now func() time.Time) *memory {
	return &memory{path: path, now: now, asked: map[string]map[string]time.Time{}}
}

// remember notes that identity asks for names and reports whether one of them is
// new. What is no mesh destination is not remembered.
func (m *memory) remember(identity string, names []string) (grown bool) {
	if len(names) == 0 {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	known := m.asked[identity]
	for _, name := range names {
		if _, ok := known[name]; !ok {
			if _, err := mesh.ParseDestinationName(name); err != nil {
				continue
			}
			if known == nil {
				m.makeRoomLocked()
				known = map[string]time.Time{}
				m.asked[identity] = known
			}
			grown = true
		}
		known[name] = now
		m.dirty = true
	}
	if len(known) > rememberNames {
		forgetOldest(known, len(known)-rememberNames)
	}
	return grown
}

// makeRoomLocked forgets the identities that asked longest ago, a tenth at a
// time so that the search for them is rare.
func (m *memory) makeRoomLocked() {
	if len(m.asked) < rememberIdentities {
		return
	}
	last := make(map[string]time.Time, len(m.asked))
	for id, names := range m.asked {
		for _, at := range names {
			if at.After(last[id]) {
				last[id] = at
			}
		}
	}
	forgetOldest(last, rememberIdentities/10)
	maps.DeleteFunc(m.asked, func(id string, _ map[string]time.Time) bool {
		_, keep := last[id]
		return !keep
	})
}

// forgetOldest deletes the n oldest entries.
func forgetOldest(at map[string]time.Time, n int) {
	keys := slices.Collect(maps.Keys(at))
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(at[a].Compare(at[b]), cmp.Compare(a, b)) })
	for _, k := range keys[:n] {
		delete(at, k)
	}
}

// namesOf returns what identity asked for within [rememberFor].
func (m *memory) namesOf(identity string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	oldest := m.now().Add(-rememberFor)
	names := make([]string, 0, len(m.asked[identity]))
	for name, at := range m.asked[identity] {
		if at.Before(oldest) {
			delete(m.asked[identity], name)
			continue
		}
		names = append(names, name)
	}
	return names
}

// memoryFile is the JSON form on disk.
type memoryFile struct {
	Version int                             `json:"version"` // 1
	Asked   map[string]map[string]time.Time `json:"asked"`
}

// load reads the file. A missing file is an empty one; a broken one is an error
// and leaves the memory empty.
func (m *memory) load() error {
	if m.path == "" {
		return nil
	}
	b, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var f memoryFile
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("read %s: %w", m.path, err)
	}
	if f.Version != 1 {
		return fmt.Errorf("read %s: version %d, this program writes 1", m.path, f.Version)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, names := range f.Asked {
		if names != nil && m.asked[id] == nil {
			m.asked[id] = names
		}
	}
	return nil
}

// saveLoop writes the file whenever it is behind, until ctx ends.
func (m *memory) saveLoop(ctx context.Context, log *slog.Logger) {
	if m.path == "" {
		return
	}
	tick := time.NewTicker(saveInterval)
	defer tick.Stop()
	fault := "" // of the last write, so that a full disk is logged once
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			ended = true
		}
		err := m.save()
		if err != nil && err.Error() != fault {
			log.Warn("what sidecars asked for is not kept on disk: trying on", "err", err)
		}
		fault = fmt.Sprint(err)
	}
}

func (m *memory) save() error {
	m.mu.Lock()
	if !m.dirty {
		m.mu.Unlock()
		return nil
	}
	m.dirty = false
	b, err := json.Marshal(memoryFile{Version: 1, Asked: m.asked})
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if err := wholefile.Write(m.path, b, 0o600); err != nil {
		m.mu.Lock()
		m.dirty = true
		m.mu.Unlock()
		return err
	}
	return nil
}
