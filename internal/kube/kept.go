package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/version"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// keptSets are the followed sets as a file has them, so that a process that starts while the
// API server is away knows what it said last. While it is away nothing can have changed in it, so
// that what is old is so only by the time for which this process was not there: at most keptFor.
type keptSets struct {
	path string // empty: nothing is kept

	mu   sync.Mutex
	read keptFile // what the file had at the start, less what was recalled
	err  error    // of the last write
}

// keptFile is the file. One that another version wrote is not read: that one may have trimmed
// away what this one looks at.
type keptFile struct {
	Version string                     `json:"version"`
	At      time.Time                  `json:"at"` // until when the sets were known to be so
	Sets    map[string]json.RawMessage `json:"sets"`
}

// load reads the file. What cannot be read is not there.
func (k *keptSets) load(now time.Time) error {
	if k.path == "" {
		return nil
	}
	info, err := os.Stat(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if info.Size() > maxKept {
		return fmt.Errorf("%s has %d bytes, at most %d are read", k.path, info.Size(), maxKept)
	}
	data, err := os.ReadFile(k.path)
	if err != nil {
		return err
	}
	var f keptFile
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("%s: %w", k.path, err)
	}
	if f.Version != version.String() || now.Sub(f.At) > keptFor || f.At.After(now.Add(time.Minute)) {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read = f
	return nil
}

// take returns what the file had of a set, once.
func (k *keptSets) take(key string) (set json.RawMessage, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	set = k.read.Sets[key]
	delete(k.read.Sets, key)
	return set, k.read.At
}

// KeptErr returns why what the API server says cannot be written down; nil: it can, or is not kept.
func (c *Client) KeptErr() error {
	c.kept.mu.Lock()
	defer c.kept.mu.Unlock()
	return c.kept.err
}

// keep writes down what is known, at a pace and at the end, until ctx ends.
func (c *Client) keep(ctx context.Context) {
	if c.kept.path == "" {
		return
	}
	var written int
	var at time.Time
	for {
		pause := keepEvery
		if at.IsZero() {
			pause = keepFirst
		}
		going := state.Pause(ctx, pause)
		changes, asOf, whole := c.known()
		if whole && (changes != written || asOf.Sub(at) > keepAnyway || !going) {
			err := c.writeKept(asOf)
			if err == nil {
				written, at = changes, asOf
			} else {
				c.log.Warn("what the API server says is not written down: a start without it will not know it", "err", err)
			}
			c.kept.mu.Lock()
			c.kept.err = err
			c.kept.mu.Unlock()
		}
		if !going {
			return
		}
	}
}

// known returns how often what is followed has changed, until when that is known to be so,
// and whether all of it was read from the API server.
func (c *Client) known() (changes int, asOf time.Time, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	asOf = time.Now()
	for _, f := range c.followed {
		n, lost, heard := f.heardOf()
		if !heard {
			return 0, asOf, false
		}
		if changes += n; !lost.IsZero() && lost.Before(asOf) {
			asOf = lost
		}
	}
	return changes, asOf, true
}

func (c *Client) writeKept(asOf time.Time) error {
	f := keptFile{Version: version.String(), At: asOf, Sets: map[string]json.RawMessage{}}
	c.mu.Lock()
	all := slices.Clone(c.followed)
	c.mu.Unlock()
	for _, one := range all {
		set, err := one.encode()
		if err != nil {
			return err
		}
		f.Sets[one.keptAs()] = set
	}
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if len(data) > maxKept {
		return fmt.Errorf("%d bytes, at most %d are kept", len(data), maxKept)
	}
	return wholefile.Write(c.kept.path, data, 0o600)
}

// recall takes the set from the file when the API server has never said it, and reports whether
// it did.
func (f *Followed[T]) recall() bool {
	if _, known := f.set.size(); known {
		return false
	}
	data, at := f.client.kept.take(f.key)
	if data == nil {
		return false
	}
	var objects []T
	if err := json.Unmarshal(data, &objects); err != nil {
		f.client.log.Warn("what was kept of the API server is not read", "kind", f.name(), "err", err)
		return false
	}
	if !f.set.recall(objects) {
		return false
	}
	f.mu.Lock()
	f.lost = at
	f.mu.Unlock()
	f.client.log.Warn("the API server does not answer: what it said before this process started is used", "kind", f.name(), "objects", len(objects), "as_of", at)
	return true
}

// heardOf implements [followed].
func (f *Followed[T]) heardOf() (changes int, lost time.Time, heard bool) {
	changes, known := f.set.count()
	f.mu.Lock()
	defer f.mu.Unlock()
	return changes, f.lost, known && !f.unheard
}

// encode implements [followed].
func (f *Followed[T]) encode() (json.RawMessage, error) {
	all, _ := f.set.snapshot()
	return json.Marshal(all)
}

// keptAs implements [followed].
func (f *Followed[T]) keptAs() string { return f.key }
