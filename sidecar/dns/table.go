package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Table gives each mesh name its virtual address pair, and keeps that on disk: a
// name has the same pair after a restart, and a pair never another name. Two sidecars
// mostly, but not always, agree. Its methods may be called concurrently.
type Table struct {
	path  string       // empty: memory only
	saver *state.Saver // writes the whole file when a new name could not be appended

	mu        sync.RWMutex
	addresses addresses
	file      *os.File // for appending; nil: the next new name writes the whole file
	closed    bool
}

// OpenTable reads the table in the file at path, or makes an empty one. An empty
// path keeps it in memory. A damaged file is moved to path.damaged and what is good
// of it is kept. A nil log discards.
func OpenTable(path string, log *slog.Logger) (*Table, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &Table{path: path, addresses: newAddresses()}
	t.saver = state.NewSaver(state.SaverConfig{
		What: "the virtual addresses of mesh names", Write: t.rewrite, Delay: rewriteDelay, Interval: rewriteInterval, Log: log,
	})
	if path == "" {
		return t, nil
	}
	a, damaged, err := readTable(path)
	if err != nil {
		return nil, fmt.Errorf("virtual addresses: %w", err)
	}
	t.addresses = a
	if damaged != nil {
		log.Warn("the file of virtual addresses is damaged: some names may get new addresses",
			"path", path, "kept", len(a.names), "old", path+".damaged", "err", damaged)
		if err := os.Rename(path, path+".damaged"); err != nil {
			return nil, fmt.Errorf("virtual addresses: %w", err)
		}
	}
	if t.file, err = replaceTable(path, a.marshal()); err != nil {
		return nil, fmt.Errorf("virtual addresses: %w", err)
	}
	return t, nil
}

// Of returns the address pair of d's name; d's port does not matter. A name that
// is new is on its way to the disk when Of returns. It fails only when all
// addresses are in use.
func (t *Table) Of(d mesh.Destination) (v4, v6 netip.Addr, err error) {
	d.Port = 0
	t.mu.RLock()
	s, ok := t.addresses.slots[d]
	t.mu.RUnlock()
	if !ok {
		if s, err = t.assign(d); err != nil {
			return netip.Addr{}, netip.Addr{}, fmt.Errorf("address for %s: %w", d.Host(), err)
		}
	}
	return s.v4(), s.v6(), nil
}

func (t *Table) assign(d mesh.Destination) (slot, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, fresh, err := t.addresses.of(d)
	if fresh {
		t.saveLocked(d, s)
	}
	return s, err
}

// Run writes down what the disk has refused, until ctx ends.
func (t *Table) Run(ctx context.Context) { t.saver.Run(ctx) }

// StateErr returns why the file does not hold every name; nil: it does, or will in a
// moment.
func (t *Table) StateErr() error { return t.saver.Err() }

// saveLocked writes a new name down. Trouble with the disk is no reason to refuse
// the program its address; the next new name writes everything again, and so does
// Run.
func (t *Table) saveLocked(d mesh.Destination, s slot) {
	if t.path == "" || t.closed {
		return
	}
	var err error
	if t.file != nil {
		_, err = t.file.Write(appendLine(nil, d, s))
	} else {
		t.file, err = replaceTable(t.path, t.addresses.marshal())
	}
	if err != nil {
		if t.file != nil {
			_ = t.file.Close() // part of a line may be there
			t.file = nil
		}
		t.saver.Changed()
	}
}

// rewrite writes the whole file, unless that has been done since.
func (t *Table) rewrite() (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil && !t.closed {
		t.file, err = replaceTable(t.path, t.addresses.marshal())
	}
	return err
}

// Name returns whose virtual address a is, with port 0. It allocates nothing.
func (t *Table) Name(a netip.Addr) (mesh.Destination, bool) {
	s, ok := slotOf(a)
	if !ok {
		return mesh.Destination{}, false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	d, ok := t.addresses.names[s]
	return d, ok
}

// hasBelow reports whether a name of the table is below a canonical name.
func (t *Table) hasBelow(name string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.addresses.above[name]
	return ok
}

// hasAny reports whether one of the slots from first to last has a name.
func (t *Table) hasAny(first, last slot) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if int(last-first) < len(t.addresses.names) {
		for s := int(first); s <= int(last); s++ {
			if _, ok := t.addresses.names[slot(s)]; ok {
				return true
			}
		}
		return false
	}
	for s := range t.addresses.names {
		if first <= s && s <= last {
			return true
		}
	}
	return false
}

// Len returns how many names have an address.
func (t *Table) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.addresses.names)
}

// Close closes the file. The table still answers; what is new is forgotten.
func (t *Table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.file == nil {
		return nil
	}
	err := t.file.Close()
	t.file = nil
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
