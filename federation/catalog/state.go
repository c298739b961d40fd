package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Head names one state of one origin. It is what the origin signs.
type Head struct {
	Origin  mesh.GatewayID `json:"origin"`
	Version Version        `json:"version"`
	Digest  Digest         `json:"digest"`
}

// signedPrefix keeps a signature over a head from meaning anything else.
const signedPrefix = "isthmus catalog head 1\n"

// SignedBytes returns what the origin signs for h.
func (h Head) SignedBytes() []byte {
	b := []byte(signedPrefix)
	for _, s := range []string{string(h.Origin.Cluster), string(h.Origin.Name)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	b = binary.BigEndian.AppendUint64(b, h.Version.Epoch)
	b = binary.BigEndian.AppendUint64(b, h.Version.Seq)
	return append(b, h.Digest[:]...)
}

// Compare orders heads of one origin by which of them wins.
func (h Head) Compare(o Head) int {
	if c := h.Version.Compare(o.Version); c != 0 {
		return c
	}
	return bytes.Compare(h.Digest[:], o.Digest[:])
}

// Conflict reports whether a and b are two different states under one version.
func Conflict(a, b Head) bool {
	return a.Origin == b.Origin && a.Version == b.Version && a.Digest != b.Digest
}

// State is what one origin exports at one version. It is immutable.
type State struct {
	head    Head
	records map[string]*record // by name
	size    int                // bytes of all records
	removed map[string]uint64  // removed names, with the sequence number of the removal
	// floor is the oldest sequence number for which removed is complete: who
	// holds less needs the whole state.
	floor uint64
}

// New returns the state of an origin that has just started and has not yet said
// what it offers: sequence number 0 of its epoch.
func New(origin mesh.GatewayID, epoch uint64) *State {
	s := &State{head: Head{Origin: origin, Version: Version{Epoch: epoch}}}
	s.head.Digest = digest(nil)
	return s
}

// Head returns the state's origin, version and digest.
func (s *State) Head() Head { return s.head }

// Len returns the number of records.
func (s *State) Len() int { return len(s.records) }

// Has reports whether a service is among the records.
func (s *State) Has(service mesh.ServiceName) bool { return s.records[service.String()] != nil }

// Size returns the bytes of all records.
func (s *State) Size() int { return s.size }

// Exports returns the services among the records, sorted by service.
func (s *State) Exports() []mesh.Export {
	es := make([]mesh.Export, 0, len(s.records))
	for _, r := range s.records {
		if r.export != nil {
			es = append(es, *r.export)
		}
	}
	slices.SortFunc(es, func(a, b mesh.Export) int { return a.Service.Compare(b.Service) })
	return es
}

// Next returns the origin's state after it offers exactly the given exports. It
// is s itself when nothing changed and s is not the first of its epoch. What does
// not fit the bounds of this package is left out, the first ones come first, and
// reported by the error, which comes beside a usable state.
func (s *State) Next(exports []mesh.Export) (*State, error) {
	n := &State{head: s.head, floor: s.floor}
	n.head.Version.Seq++
	n.records = make(map[string]*record, min(len(exports), MaxRecords))
	var errs []error
	changed := s.head.Version.Seq == 0
	for _, e := range exports {
		name := e.Service.String()
		raw, err := json.Marshal(e)
		if err != nil {
			errs = append(errs, fmt.Errorf("export %s: %w", e.Service, err))
			continue
		}
		switch {
		case n.records[name] != nil:
			errs = append(errs, fmt.Errorf("export %s: there twice, the first is kept", e.Service))
			continue
		case len(n.records) == MaxRecords || n.size+len(raw) > MaxStateBytes:
			errs = append(errs, fmt.Errorf("export %s: left out: a gateway may export %d services in %d bytes", e.Service, MaxRecords, MaxStateBytes))
			continue
		}
		r := s.records[name]
		if r == nil || !bytes.Equal(r.raw, raw) {
			if r, err = newRecord(name, n.head.Version.Seq, raw); err != nil {
				errs = append(errs, fmt.Errorf("export %s: left out: %w", e.Service, err))
				continue
			}
			changed = true
		}
		n.size += len(raw)
		n.records[name] = r
	}
	n.removed = maps.Clone(s.removed)
	for name := range s.records {
		if n.records[name] == nil {
			changed = true
			n.remember(name, n.head.Version.Seq)
		}
	}
	if !changed {
		return s, errors.Join(errs...)
	}
	n.seal()
	return n, errors.Join(errs...)
}

// Again returns the same records one sequence number later, so that they are
// signed anew: the origin's certificate has changed.
func (s *State) Again() *State {
	n := *s
	n.head.Version.Seq++
	return &n
}

// At returns the same records as the first state of a later epoch.
func (s *State) At(epoch uint64) (*State, error) {
	if s.head.Version.Seq == 0 {
		return New(s.head.Origin, epoch), nil
	}
	return New(s.head.Origin, epoch).Next(s.Exports())
}

// Prefer returns the state that wins; either may be nil.
func Prefer(a, b *State) *State {
	switch {
	case a == nil:
		return b
	case b == nil || a.head.Compare(b.head) >= 0:
		return a
	}
	return b
}

func (s *State) remember(name string, seq uint64) {
	if s.removed == nil {
		s.removed = make(map[string]uint64)
	}
	s.removed[name] = seq
}

// seal drops removals that no longer matter and computes the digest. It is the
// last step of making a state.
func (s *State) seal() {
	for name := range s.removed {
		if s.records[name] != nil {
			delete(s.removed, name)
		}
	}
	if over := len(s.removed) - MaxTombstones; over > 0 {
		seqs := slices.Sorted(maps.Values(s.removed))
		s.floor = max(s.floor, seqs[over-1])
		for name, seq := range s.removed {
			if seq <= s.floor {
				delete(s.removed, name)
			}
		}
	}
	s.head.Digest = digest(s.records)
}

func digest(records map[string]*record) Digest {
	names := slices.Sorted(maps.Keys(records))
	h := sha256.New()
	h.Write([]byte("isthmus catalog 1\n"))
	for _, name := range names {
		h.Write(records[name].sum[:])
	}
	return Digest(h.Sum(nil))
}
