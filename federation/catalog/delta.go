package catalog

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Delta leads from one state of an origin to a later one. It is immutable.
type Delta struct {
	Head Head `json:"head"` // of the outcome
	// Whole: Records is everything and replaces what was held. Otherwise the
	// delta applies to a state of the same epoch at sequence number Since.
	Whole   bool          `json:"whole,omitempty"`
	Since   uint64        `json:"since,omitempty"`
	Records []DeltaRecord `json:"records,omitempty"`
	Removed []Removal     `json:"removed,omitempty"`
}

// DeltaRecord is a record that was written since.
type DeltaRecord struct {
	Name string          `json:"name"`
	Seq  uint64          `json:"seq"`
	Raw  json.RawMessage `json:"raw"`
}

// Removal is a record that is there no more, such as a service that is exported no more.
type Removal struct {
	Name string `json:"name"`
	Seq  uint64 `json:"seq"`
}

// ErrMismatch reports that a delta does not lead to the state that its head
// names. Who asked for a part should ask for the whole.
var ErrMismatch = errors.New("the digest of the records is not the one in the head")

// Delta returns what a holder of version have needs. It is nil when have is not
// older than s.
func (s *State) Delta(have Version) *Delta {
	if have.Compare(s.head.Version) >= 0 {
		return nil
	}
	d := &Delta{Head: s.head, Since: have.Seq}
	if have.Epoch != s.head.Version.Epoch || have.Seq < s.floor || have.Seq == 0 {
		return s.Whole()
	}
	for _, r := range s.records {
		if r.seq > have.Seq {
			d.Records = append(d.Records, DeltaRecord{r.name, r.seq, r.raw})
		}
	}
	for name, seq := range s.removed {
		if seq > have.Seq {
			d.Removed = append(d.Removed, Removal{name, seq})
		}
	}
	d.sort()
	return d
}

// Whole returns all of s as a delta that needs nothing before it.
func (s *State) Whole() *Delta {
	d := &Delta{Head: s.head, Whole: true}
	for _, r := range s.records {
		d.Records = append(d.Records, DeltaRecord{r.name, r.seq, r.raw})
	}
	d.sort()
	return d
}

// sort makes the same delta the same bytes.
func (d *Delta) sort() {
	slices.SortFunc(d.Records, func(a, b DeltaRecord) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(d.Removed, func(a, b Removal) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Name, b.Name))
	})
}

// Apply returns the state that d leads to from s, which is nil when nothing of
// the origin is held. It returns [ErrMismatch] when that is not the state that
// d.Head names. It neither resolves conflicts nor looks at signatures: compare
// and verify d.Head before keeping the outcome.
func (s *State) Apply(d *Delta) (*State, error) {
	n := &State{head: d.Head}
	if len(d.Records) > MaxRecords || len(d.Removed) > MaxTombstones {
		return nil, fmt.Errorf("delta of %s: %d records and %d removals: at most %d and %d", d.Head.Origin, len(d.Records), len(d.Removed), MaxRecords, MaxTombstones)
	}
	if d.Whole {
		n.records = make(map[string]*record, len(d.Records))
		n.floor = d.Head.Version.Seq
	} else {
		if s == nil || s.head.Origin != d.Head.Origin ||
			s.head.Version != (Version{d.Head.Version.Epoch, d.Since}) {
			return nil, fmt.Errorf("delta of %s since %d.%d: %w", d.Head.Origin, d.Head.Version.Epoch, d.Since, ErrMismatch)
		}
		n.records, n.removed, n.floor = maps.Clone(s.records), maps.Clone(s.removed), s.floor
		n.size = s.size
		if n.records == nil {
			n.records = make(map[string]*record)
		}
	}
	for _, x := range d.Removed {
		if err := checkName(x.Name); err != nil {
			return nil, fmt.Errorf("delta of %s: %w", d.Head.Origin, err)
		}
		n.put(x.Name, nil)
		n.remember(x.Name, x.Seq)
	}
	for _, x := range d.Records {
		raw, err := compactJSON(x.Raw)
		if err != nil {
			return nil, fmt.Errorf("delta of %s: %w", d.Head.Origin, err)
		}
		r, err := newRecord(x.Name, x.Seq, raw)
		if err != nil {
			return nil, fmt.Errorf("delta of %s: %w", d.Head.Origin, err)
		}
		n.put(x.Name, r)
		if len(n.records) > MaxRecords || n.size > MaxStateBytes {
			return nil, fmt.Errorf("delta of %s: more than %d records or %d bytes", d.Head.Origin, MaxRecords, MaxStateBytes)
		}
	}
	n.seal()
	if n.head.Digest != d.Head.Digest {
		return nil, fmt.Errorf("delta of %s to %s: %w", d.Head.Origin, d.Head.Version, ErrMismatch)
	}
	n.head = d.Head
	return n, nil
}

// put replaces the record of a name, or with nil takes it away. n is being made.
func (n *State) put(name string, r *record) {
	if old := n.records[name]; old != nil {
		n.size -= len(old.raw)
		delete(n.records, name)
	}
	if r != nil {
		n.size += len(r.raw)
		n.records[name] = r
	}
}
