package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var west1 = mesh.GatewayID{Cluster: "west", Name: "west-1"}

func mustNext(t *testing.T, s *State, es ...mesh.Export) *State {
	t.Helper()
	n, err := s.Next(es)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNothingNewIsNoNewVersion(t *testing.T) {
	s := mustNext(t, New(west1, 7), exportNamed("orders", 2), exportNamed("cart", 1))
	if n := mustNext(t, s, exportNamed("cart", 1), exportNamed("orders", 2)); n != s {
		t.Errorf("the same exports in another order made version %s of %s", n.Head().Version, s.Head().Version)
	}
	if n := mustNext(t, s, exportNamed("cart", 1), exportNamed("orders", 1)); n.Head().Version != (Version{7, 2}) {
		t.Errorf("one change made version %s, want 7.2", n.Head().Version)
	}
}

func TestTheFirstEmptySetIsAVersionOfItsOwn(t *testing.T) {
	s := New(west1, 7)
	n := mustNext(t, s)
	if s.Head().Version.Seq != 0 || n.Head().Version.Seq != 1 {
		t.Errorf("offering nothing must differ from having said nothing: %s, %s", s.Head().Version, n.Head().Version)
	}
}

func TestADeltaHoldsOnlyWhatChanged(t *testing.T) {
	a := mustNext(t, New(west1, 7), exportNamed("orders", 2), exportNamed("cart", 1), exportNamed("users", 1))
	b := mustNext(t, a, exportNamed("orders", 1), exportNamed("cart", 1))
	d := b.Delta(a.Head().Version)
	if d.Whole || len(d.Records) != 1 || len(d.Removed) != 1 || d.Removed[0].Name != "shop/users" {
		t.Errorf("delta %+v: want orders and the removal of users", d)
	}
	if d := b.Delta(Version{6, 1}); !d.Whole || len(d.Records) != 2 {
		t.Errorf("delta from another epoch %+v: want everything", d)
	}
	if d := b.Delta(b.Head().Version); d != nil {
		t.Errorf("delta to itself: %+v", d)
	}
}

func TestAChangedDeltaIsAMismatch(t *testing.T) {
	a := mustNext(t, New(west1, 7), exportNamed("orders", 2), exportNamed("cart", 1))
	b := mustNext(t, a, exportNamed("orders", 1), exportNamed("users", 1))
	for name, change := range map[string]func(*Delta){
		"a count": func(d *Delta) {
			d.Records[0].Raw = bytes.Replace(d.Records[0].Raw, []byte(`"ready":1`), []byte(`"ready":9`), 1)
		},
		"a record's seq":   func(d *Delta) { d.Records[0].Seq++ },
		"a record missing": func(d *Delta) { d.Records = d.Records[1:] },
		"a removal left":   func(d *Delta) { d.Removed = nil },
		"a removal added": func(d *Delta) {
			d.Removed = append(d.Removed, Removal{"shop/orders", 2})
			d.Records = d.Records[:1]
		},
		"another start": func(d *Delta) { d.Since = 0 },
		"a digest":      func(d *Delta) { d.Head.Digest[3]++ },
	} {
		d := b.Delta(a.Head().Version)
		d.Records = append([]DeltaRecord(nil), d.Records...)
		change(d)
		if _, err := a.Apply(d); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v, want ErrMismatch", name, err)
		}
	}
}

func TestUnknownFieldsAndProtocolsSurviveBeingHandedOn(t *testing.T) {
	raw := `{"service":"shop/orders","ports":[{"port":80,"protocol":"http","ready":1,"total":1,"capacity":1,"identities":[]},{"port":90,"protocol":"quic","hops":3},{"port":91,"protocol":"?"}],"later":{"a":1}}`
	r, err := newRecord("shop/orders", 1, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	s := &State{head: Head{Origin: west1, Version: Version{7, 1}}, records: map[string]*record{r.name: r}}
	s.seal()
	got, err := (*State)(nil).Apply(s.Whole())
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := json.Marshal(got.Whole()); !strings.Contains(string(b), "later") || !strings.Contains(string(b), "quic") {
		t.Errorf("handed on as %s", b)
	}
	if e := got.Exports(); len(e) != 1 || len(e[0].Ports) != 2 || e[0].Ports[0].Protocol != mesh.HTTP || e[0].Ports[1].Protocol != mesh.TCP {
		t.Errorf("exports %+v: want the port that is understood, and bytes on the other", e)
	}
}

// A later version may write records of another kind. They must not cost its services here.
func TestARecordOfAKindOfTomorrowIsKeptAndMeansNothing(t *testing.T) {
	today := mustNext(t, New(west1, 7), exportNamed("orders", 2))
	d := today.Whole()
	d.Records = append(d.Records, DeltaRecord{"policy:shop/limits", 1, []byte(`{"service":7,"ports":"none","rules":[{"a":1}]}`)})
	records := map[string]*record{}
	for _, x := range d.Records {
		r, err := newRecord(x.Name, x.Seq, x.Raw)
		if err != nil {
			t.Fatal(err)
		}
		records[x.Name] = r
	}
	d.Head.Digest = digest(records)
	got, err := (*State)(nil).Apply(d)
	if err != nil || got.Len() != 2 || len(got.Exports()) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	if b, _ := json.Marshal(got.Whole()); !strings.Contains(string(b), `{"name":"policy:shop/limits","seq":1,"raw":{"service":7`) {
		t.Errorf("handed on as %s", b)
	}
	// It goes like any other.
	gone := Delta{Head: Head{Origin: west1, Version: Version{7, 2}, Digest: digest(today.records)}, Since: 1, Removed: []Removal{{"policy:shop/limits", 2}}}
	if got, err = got.Apply(&gone); err != nil || got.Len() != 1 || got.Size() != today.Size() {
		t.Errorf("%v, %v", got, err)
	}
	for name, raw := range map[string]string{
		"":                        `{}`,
		"orders":                  `{"service":"shop/orders"}`,
		"shop/orders":             `{"service":"shop/cart"}`,
		"shop/cart":               `{"rules":[]}`,
		strings.Repeat("x:", 200): `{}`,
	} {
		if r, err := newRecord(name, 1, []byte(raw)); err == nil {
			t.Errorf("%q: %s is a record: %v", name, raw, r)
		}
	}
}

func TestWhoMissedTooManyRemovalsGetsTheWhole(t *testing.T) {
	var es []mesh.Export
	for i := range MaxTombstones + 10 {
		es = append(es, exportNamed(fmt.Sprintf("s%d", i), 1))
	}
	s := mustNext(t, New(west1, 1), es...)
	first := s.Head().Version
	s = mustNext(t, s, es[5:]...)
	second := s.Head().Version
	for len(es) > 8 {
		es = es[(len(es)+1)/2:]
		s = mustNext(t, s, es...)
	}
	if len(s.removed) > MaxTombstones {
		t.Errorf("%d removals remembered, more than %d", len(s.removed), MaxTombstones)
	}
	if !s.Delta(first).Whole {
		t.Error("a holder of the first version got a part although removals were forgotten")
	}
	if s.Delta(Version{1, s.head.Version.Seq - 1}).Whole {
		t.Error("a holder that missed one change got the whole")
	}
	_ = second
}

func TestMoreThanTheBoundIsLeftOutAndReported(t *testing.T) {
	es := make([]mesh.Export, 0, MaxRecords+1)
	for i := range MaxRecords + 1 {
		es = append(es, mesh.Export{Service: mesh.ServiceName{Namespace: "n", Name: fmt.Sprintf("s%05d", i)}})
	}
	es = append(es, mesh.Export{Service: mesh.ServiceName{Namespace: "a", Name: "big"},
		Ports: []mesh.ExportPort{{Port: 1, Protocol: mesh.TCP, Identities: []string{strings.Repeat("x", 3000)}}}})
	s, err := New(west1, 1).Next(es)
	if err == nil || !strings.Contains(err.Error(), "s10000") || !strings.Contains(err.Error(), "a/big") {
		t.Errorf("error %v: want the last service and the big one named", err)
	}
	if s.Len() != MaxRecords || !s.Has(es[0].Service) || s.Has(es[MaxRecords].Service) {
		t.Errorf("%d records, want the first %d", s.Len(), MaxRecords)
	}
}

func TestSigningAnewKeepsTheRecords(t *testing.T) {
	a := mustNext(t, New(west1, 7), exportNamed("orders", 2))
	b := a.Again()
	d := b.Delta(a.Head().Version)
	if d.Whole || len(d.Records) != 0 {
		t.Errorf("delta %+v: want none of the records", d)
	}
	got, err := a.Apply(d)
	if err != nil || got.Head() != b.Head() || got.Len() != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestALaterEpochRetiresTheRecordsOfTheEarlier(t *testing.T) {
	old := mustNext(t, New(west1, 7), exportNamed("orders", 2), exportNamed("cart", 1))
	now := mustNext(t, New(west1, 8), exportNamed("cart", 1))
	if got := Prefer(old, now); got != now || got.Len() != 1 {
		t.Errorf("kept %v", got)
	}
	moved, err := old.At(9)
	if err != nil || moved.Head().Version != (Version{9, 1}) || moved.Len() != 2 {
		t.Errorf("moved to %v, %v", moved, err)
	}
}

func TestSignedBytesTellEveryFieldApart(t *testing.T) {
	h := Head{Origin: west1, Version: Version{1, 2}}
	other := []Head{
		{Origin: mesh.GatewayID{Cluster: "wes", Name: "twest-1"}, Version: Version{1, 2}},
		{Origin: west1, Version: Version{2, 1}},
		{Origin: west1, Version: Version{1, 2}, Digest: Digest{1}},
	}
	for _, o := range other {
		if bytes.Equal(h.SignedBytes(), o.SignedBytes()) {
			t.Errorf("%+v signs the same bytes as %+v", o, h)
		}
	}
}

func FuzzApply(f *testing.F) {
	a, _ := New(west1, 7).Next([]mesh.Export{exportNamed("orders", 2), exportNamed("cart", 1)})
	b, _ := a.Next([]mesh.Export{exportNamed("orders", 1), exportNamed("users", 1)})
	for _, d := range []*Delta{a.Whole(), b.Delta(a.Head().Version)} {
		raw, _ := json.Marshal(d)
		f.Add(raw)
	}
	f.Add([]byte(`{"head":{"origin":"west/west-1","version":{"epoch":7,"seq":2}},"since":1,"records":[{"raw":null},{"name":"a/b","raw":{"service":"a/b","ports":[{"port":0}]}},{"name":"x:y","raw":1}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d Delta
		if json.Unmarshal(raw, &d) != nil {
			return
		}
		for _, s := range []*State{nil, a} {
			n, err := s.Apply(&d)
			if err != nil {
				continue
			}
			if n.Head() != d.Head {
				t.Fatalf("applied to %v, the delta said %v", n.Head(), d.Head)
			}
			if _, err := (*State)(nil).Apply(n.Whole()); err != nil {
				t.Fatalf("what was accepted cannot be handed on: %v", err)
			}
		}
	})
}
