package federation

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
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

func TestAnAnswerThatGrowsBeyondTheBoundIsRefused(t *testing.T) {
	bomb := compress(bytes.Repeat([]byte(" "), catalog.MaxPullBytes+1))
	if len(bomb) > 1<<20 {
		t.Fatalf("%d bytes are no bomb", len(bomb))
	}
	if _, err := decodeSignedDelta(bytes.NewReader(bomb), true); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a delta of 16 MiB and a byte: %v", err)
	}
	list := compress(bytes.Repeat([]byte(" "), maxListBytes+1))
	if _, err := decodeVersionList(bytes.NewReader(list), true); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a list of a byte too many: %v", err)
	}
}

func FuzzSignedDelta(f *testing.F) {
	s, err := catalog.New(west1, 7).Next([]mesh.Export{serving("west", "shop/orders", 2)})
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(signedDelta{s.Whole(), identity.Signature{Chain: [][]byte{{1}}, Sig: []byte{2}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, false)
	f.Add(compress(good), true)
	f.Add(compress(good)[:40], true)
	f.Add([]byte(`{"delta":null}`), false)
	f.Add([]byte(`{"delta":{"head":{"origin":"west"}}}`), false)
	f.Fuzz(func(t *testing.T, b []byte, gz bool) {
		d, err := decodeSignedDelta(bytes.NewReader(b), gz)
		if err != nil {
			return
		}
		if s, err := (*catalog.State)(nil).Apply(d.Delta); err == nil && s.Head() != d.Delta.Head {
			t.Fatal("applied to another head")
		}
	})
}

func FuzzVersionList(f *testing.F) {
	good, err := json.Marshal(versionList{Origins: []catalog.Head{{Origin: west1, Version: catalog.Version{Epoch: 7, Seq: 1}}}, MeshAddress: "10.0.0.5:15443"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, false)
	f.Add(compress(good), true)
	f.Add([]byte(`{"origins":[null,{}]}`), false)
	f.Fuzz(func(t *testing.T, b []byte, gz bool) {
		if l, err := decodeVersionList(bytes.NewReader(b), gz); err == nil && len(l.Origins) > core.MaxGateways {
			t.Fatalf("%d origins", len(l.Origins))
		}
	})
}
