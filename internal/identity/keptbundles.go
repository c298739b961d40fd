package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// keepInterval is the pause before bundles that could not be written are written again.
const keepInterval = 5 * time.Second

// KeepBundles has the bundles in force kept in a file from now on, before [Source.Run], and takes
// those that it holds. What cannot be read is left out and logged: it can be learnt again.
func (s *TrustStore) KeepBundles(path string) {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.saver = state.NewSaver(state.SaverConfig{
		What: "which bundles are in force", Interval: keepInterval, Log: s.log,
		Write: func() error { return s.writeBundles(path) },
	})
	raws, err := readBundles(path)
	if err != nil {
		s.log.Warn("the bundles on disk are left out", "file", path, "err", err)
	}
	for _, raw := range raws {
		if err := s.restoreLocked(raw); err != nil {
			s.log.Warn("a bundle on disk is left out", "file", path, "err", err)
		}
	}
}

// keep writes again what could not be written, until ctx ends.
func (s *TrustStore) keep(ctx context.Context) {
	s.changing.Lock()
	saver := s.saver
	s.changing.Unlock()
	if saver != nil {
		saver.Run(ctx)
	}
}

// restoreLocked takes a bundle that was in force before a restart. Its signer may have
// been retired since, and roots.pem be older; it must only be about the same roots.
func (s *TrustStore) restoreLocked(raw []byte) error {
	b, err := ParseBundle(raw)
	if err != nil {
		return err
	}
	t := s.now.Load()
	d := t.domains[b.TrustDomain]
	switch {
	case d == nil:
		return fmt.Errorf("trust domain %s is not configured any more", b.TrustDomain)
	case !d.related(b):
		return fmt.Errorf("bundle %d of trust domain %s has no root in common with roots.pem", b.Number, b.TrustDomain)
	case d.bundle != nil && b.compare(d.bundle) <= 0:
		return nil
	}
	s.putLocked(t.with(b))
	return nil
}

// keepLocked writes the bundles in force to disk now. What is not written is tried again by
// keep.
func (s *TrustStore) keepLocked() {
	if s.saver == nil {
		return
	}
	s.saver.Changed()
	_ = s.saver.Save() // logged, and KeptErr says it
}

// readBundles reads what writeBundles has written; none when there is no such file.
func readBundles(path string) (raws []json.RawMessage, err error) {
	b, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &raws)
	}
	return raws, err
}

// writeBundles writes the bundles in force to a file.
func (s *TrustStore) writeBundles(path string) error {
	raws := []json.RawMessage{}
	for _, b := range s.Bundles() {
		raws = append(raws, b.signed)
	}
	b, err := json.Marshal(raws)
	if err != nil {
		return err
	}
	return wholefile.Write(path, b, 0o600)
}

// KeptErr returns why the bundles in force are not on disk; nil: they are.
func (s *TrustStore) KeptErr() error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.saver == nil {
		return nil
	}
	return s.saver.Err()
}
