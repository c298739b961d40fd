package federation

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestNodeMetaOfTheLongestNamesFits(t *testing.T) {
	m := core.Meta{Version: catalog.Version{Epoch: 1 << 63, Seq: 1 << 63}, Digest: catalog.Digest{1},
		Advertise: strings.Repeat("a", maxAddress)}
	b := encodeMeta(m)
	if len(b) > 512 { // memberlist.MetaMaxSize
		t.Errorf("%d bytes", len(b))
	}
	if got, err := decodeMeta(append(b, "of a later version"...)); err != nil || got != m {
		t.Errorf("read back as %+v, %v", got, err)
	}
}

func FuzzNodeMeta(f *testing.F) {
	m := core.Meta{Version: catalog.Version{Epoch: 7, Seq: 2}, Advertise: "gw1.west.example:7443"}
	f.Add(encodeMeta(m))
	f.Add(encodeMeta(m)[:60])
	f.Add([]byte{})
	f.Add([]byte{2, 0, 0})
	f.Add(append(encodeMeta(core.Meta{})[:50], 255, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := decodeMeta(encodeMeta(m))
		if err != nil || again != m {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

func compress(b []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(b)
	_ = w.Close()
	return z.Bytes()
}

// accepting takes every head.
func accepting(catalog.Head, identity.Signature) error { return nil }

func mustCompress(t testing.TB, write func(io.Writer) error) []byte {
	t.Helper()
	b, err := compressed(write)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnAnswerReadsBackAsItWasWritten(t *testing.T) {
	raw := []byte(`{"note":"<b>&\u2028","n":1}`) // of a later version, which escapes otherwise
	want := signedDelta{&catalog.Delta{Head: catalog.Head{Origin: west1, Version: catalog.Version{Epoch: 7, Seq: 3}}, Since: 1,
		Removed: []catalog.Removal{{Name: "shop/cart", Seq: 2}}, Records: []catalog.DeltaRecord{{Name: "note:x", Seq: 3, Raw: raw}}},
		identity.Signature{Chain: [][]byte{{1}}, Sig: []byte{2}}}
	got, err := readSignedDelta(bytes.NewReader(mustCompress(t, want.write)), true, accepting)
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	list := versionList{[]catalog.Head{want.Delta.Head}, "10.0.0.5:7443", "10.0.0.5:15443"}
	if got, err := readVersionList(bytes.NewReader(mustCompress(t, list.write)), true); err != nil || !reflect.DeepEqual(*got, list) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A gzip of some kilobytes that is 16 MiB of nothing.
func TestAnAnswerIsReadOnlyAsFarAsItsHeadIsTrueAndItsBoundsAllow(t *testing.T) {
	head := `{"head":{"origin":"west/west-1","version":{"epoch":7,"seq":1},"digest":"` + strings.Repeat("0", 64) + `"},"removed":0,"records":%d}` + "\n"
	empty := strings.Repeat("{}\n", catalog.MaxPullBytes/3+1)
	refused := errors.New("not signed")
	for name, tc := range map[string]struct {
		body   string
		verify error
		want   string
		most   int // bytes allocated
	}{
		"a head that is not signed":  {fmt.Sprintf(head, catalog.MaxRecords) + empty, refused, "not signed", 4 << 20},
		"a head of too many records": {fmt.Sprintf(head, 1<<30) + empty, nil, "at most 10000", 4 << 20},
		"a negative number":          {fmt.Sprintf(head, -1) + empty, nil, "at most 10000", 4 << 20},
		"empty records":              {fmt.Sprintf(head, catalog.MaxRecords) + empty, nil, "more lines than", 16 << 20},
		"more bytes than a catalog":  {fmt.Sprintf(head, catalog.MaxRecords) + strings.Repeat(`{"raw":"`+strings.Repeat("x", 60<<10)+"\"}\n", 300), nil, "more than a catalog may have", 64 << 20},
		"one line without an end":    {fmt.Sprintf(head, 1) + strings.Repeat(" ", 1<<20), nil, "a line of more than", 4 << 20},
		"a head without an end":      {strings.Repeat("[", 1<<20), nil, "a line of more than", 4 << 20},
		"less than it says":          {fmt.Sprintf(head, 2) + `{"name":"a/b","seq":1,"raw":{}}` + "\n", nil, "unexpected EOF", 4 << 20},
	} {
		body := compress([]byte(tc.body))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := readSignedDelta(bytes.NewReader(body), true, func(catalog.Head, identity.Signature) error { return tc.verify })
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		if got := int(after.TotalAlloc - before.TotalAlloc); got > tc.most {
			t.Errorf("%s: %d bytes of gzip made %d bytes", name, len(body), got)
		}
	}
	for name, body := range map[string]string{
		"more bytes than a list may have": `{"origins":4096}` + "\n" + strings.Repeat(`{"origin":"a/b"}`+strings.Repeat(" ", 1000)+"\n", 4096),
		"too many origins":                `{"origins":1000000}` + "\n",
	} {
		if _, err := readVersionList(bytes.NewReader(compress([]byte(body))), true); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func FuzzSignedDelta(f *testing.F) {
	s, err := catalog.New(west1, 7).Next([]mesh.Export{serving("west", "shop/orders", 2)})
	if err != nil {
		f.Fatal(err)
	}
	good := mustCompress(f, signedDelta{s.Whole(), identity.Signature{Chain: [][]byte{{1}}, Sig: []byte{2}}}.write)
	f.Add(good, true)
	f.Add(good[:40], true)
	f.Add([]byte(`{"head":{"origin":"west/west-1"},"records":1,"removed":1}`+"\n"+`{"name":"a/b"}`+"\n"+`{"name":"a:b","raw":1}`+"\n"), false)
	f.Add([]byte(`{"head":null}`+"\n"), false)
	f.Fuzz(func(t *testing.T, b []byte, gz bool) {
		d, err := readSignedDelta(bytes.NewReader(b), gz, accepting)
		if err != nil {
			return
		}
		if s, err := (*catalog.State)(nil).Apply(d.Delta); err == nil && s.Head() != d.Delta.Head {
			t.Fatal("applied to another head")
		}
	})
}

func FuzzVersionList(f *testing.F) {
	good := mustCompress(f, versionList{Origins: []catalog.Head{{Origin: west1, Version: catalog.Version{Epoch: 7, Seq: 1}}}, MeshAddress: "10.0.0.5:15443"}.write)
	f.Add(good, true)
	f.Add([]byte(`{"origins":2}`+"\nnull\n{}\n"), false)
	f.Fuzz(func(t *testing.T, b []byte, gz bool) {
		if l, err := readVersionList(bytes.NewReader(b), gz); err == nil && len(l.Origins) > core.MaxGateways {
			t.Fatalf("%d origins", len(l.Origins))
		}
	})
}
