package catalog

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
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
	Seq    uint64          `json:"seq"`
	Export json.RawMessage `json:"export"`
}

// Removal is a service that is exported no more.
type Removal struct {
	Seq     uint64           `json:"seq"`
	Service mesh.ServiceName `json:"service"`
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
			d.Records = append(d.Records, DeltaRecord{r.seq, r.raw})
		}
	}
	for name, seq := range s.removed {
		if seq > have.Seq {
			d.Removed = append(d.Removed, Removal{seq, name})
		}
	}
	d.sort()
	return d
}

// Whole returns all of s as a delta that needs nothing before it.
func (s *State) Whole() *Delta {
	d := &Delta{Head: s.head, Whole: true}
	for _, r := range s.records {
		d.Records = append(d.Records, DeltaRecord{r.seq, r.raw})
	}
	d.sort()
	return d
}

// sort makes the same delta the same bytes.
func (d *Delta) sort() {
	slices.SortFunc(d.Records, func(a, b DeltaRecord) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), slices.Compare(a.Export, b.Export))
	})
	slices.SortFunc(d.Removed, func(a, b Removal) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), a.Service.Compare(b.Service))
	})
}

// Apply returns the state that d leads to from s, which is nil when nothing of
// the origin is held. It returns [ErrMismatch] when that is not the state that
// d.Head names. It neither resolves conflicts nor looks at signatures: compare
// and verify d.Head before keeping the outcome.
func (s *State) Apply(d *Delta) (*State, error) {
	n := &State{head: d.Head}
	if d.Whole {
		n.records = make(map[mesh.ServiceName]*record, min(len(d.Records), MaxRecords))
		n.floor = d.Head.Version.Seq
	} else {
		if s == nil || s.head.Origin != d.Head.Origin ||
			s.head.Version != (Version{d.Head.Version.Epoch, d.Since}) {
			return nil, fmt.Errorf("delta of %s since %d.%d: %w", d.Head.Origin, d.Head.Version.Epoch, d.Since, ErrMismatch)
		}
		n.records, n.removed, n.floor = maps.Clone(s.records), maps.Clone(s.removed), s.floor
		if n.records == nil {
			n.records = make(map[mesh.ServiceName]*record)
		}
	}
	for _, x := range d.Removed {
		delete(n.records, x.Service)
		n.remember(x.Service, x.Seq)
	}
	for _, x := range d.Records {
		raw, err := compactJSON(x.Export)
		if err != nil {
			return nil, fmt.Errorf("delta of %s: %w", d.Head.Origin, err)
		}
		r, err := newRecord(x.Seq, raw)
		if err != nil {
			return nil, fmt.Errorf("delta of %s: %w", d.Head.Origin, err)
		}
		n.records[r.export.Service] = r
		if len(n.records) > MaxRecords {
			return nil, fmt.Errorf("delta of %s: more than %d records", d.Head.Origin, MaxRecords)
		}
	}
	n.seal()
	if n.head.Digest != d.Head.Digest {
		return nil, fmt.Errorf("delta of %s to %s: %w", d.Head.Origin, d.Head.Version, ErrMismatch)
	}
	n.head = d.Head
	return n, nil
}
