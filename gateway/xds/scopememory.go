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
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// scopeMemory keeps which names each identity asked for, so that a sidecar that
// starts anew (or an Envoy, which asks for "*") is told them before it asks.
// Its methods may be called concurrently.
type scopeMemory struct {
	path  string // empty: not kept on disk
	now   func() time.Time
	saver *state.Saver

	mu    sync.Mutex
	asked map[string]map[string]time.Time // identity → name → when it last asked
}

func newScopeMemory(path string, now func() time.Time, log *slog.Logger) *scopeMemory {
	m := &scopeMemory{path: path, now: now, asked: map[string]map[string]time.Time{}}
	m.saver = state.NewSaver(state.SaverConfig{What: "what sidecars asked for", Write: m.write,
		Delay: saveDelay, Interval: saveInterval, Log: log})
	return m
}

// remember notes that identity asks for names and reports whether one of them is
// new. What is no mesh destination is not remembered.
func (m *scopeMemory) remember(identity string, names []string) (grown bool) {
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
		m.saver.Changed()
	}
	if len(known) > maxRemembered {
		forgetOldest(known, len(known)-maxRemembered)
	}
	return grown
}

// makeRoomLocked forgets the identities that asked longest ago, a tenth at a
// time so that the search for them is rare.
func (m *scopeMemory) makeRoomLocked() {
	if len(m.asked) < maxIdentities {
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
	forgetOldest(last, maxIdentities/10)
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
func (m *scopeMemory) namesOf(identity string) []string {
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

// scopeFile is the JSON form on disk.
type scopeFile struct {
	Version int                             `json:"version"` // 1
	Asked   map[string]map[string]time.Time `json:"asked"`
}

// load reads the file. A missing file is an empty one; a broken one is an error
// and leaves the memory empty.
func (m *scopeMemory) load() error {
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
	var f scopeFile
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

// run keeps the file up to date until ctx ends.
func (m *scopeMemory) run(ctx context.Context) {
	if m.path != "" {
		m.saver.Run(ctx)
	}
}

// write replaces the file.
func (m *scopeMemory) write() error {
	m.mu.Lock()
	b, err := json.Marshal(scopeFile{Version: 1, Asked: m.asked})
	m.mu.Unlock()
	if err != nil {
		return err
	}
	return wholefile.Write(m.path, b, 0o600)
}
