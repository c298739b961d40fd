package federation

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func open(t *testing.T, path string) *store {
	t.Helper()
	s, err := openStore(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestTheStateFileGivesBackWhatItWasGiven(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	state := stateOf(t, west1, 7, []mesh.Export{serving("west", "shop/orders", 2)})
	at := time.Unix(1_700_000_000, 0)
	gone := mesh.GatewayID{Cluster: "north", Name: "north-1"}
	want := &changes{
		Origins: map[mesh.GatewayID]*savedOrigin{
			west1: {Floor: state.Head().Version, Delta: state.Whole()},
			gone:  {Floor: catalog.Version{Epoch: 3, Seq: 4}},
		},
		Confirmed: map[mesh.GatewayID]time.Time{west1: at, gone: at},
		Gateways:  map[mesh.GatewayID]*core.KnownGateway{west1: {Advertise: "10.0.0.2:7443", Seen: at}, gone: {Advertise: "10.0.0.3:7443", Seen: at}},
	}
	if err := s.save(want); err != nil {
		t.Fatal(err)
	}
	if err := s.saveEpoch(41); err != nil {
		t.Fatal(err)
	}
	if err := s.save(&changes{Gateways: map[mesh.GatewayID]*core.KnownGateway{gone: nil}}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	got, err := open(t, path).load(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got.Epoch != 41 || len(got.Gateways) != 1 || !got.Confirmed[west1].Equal(at) {
		t.Errorf("got %+v", got)
	}
	if o := got.Origins[gone]; o.Delta != nil || o.Floor != (catalog.Version{Epoch: 3, Seq: 4}) {
		t.Errorf("a forgotten origin became %+v", o)
	}
	if o, err := (*catalog.State)(nil).Apply(got.Origins[west1].Delta); err != nil || o.Head() != state.Head() {
		t.Errorf("the catalog became %v, %v", o, err)
	}
}

func TestADamagedStateFileIsMovedAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a state file ", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, path).saveEpoch(1); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
}

func TestAStateFileInUseIsSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	open(t, path)
	if _, err := openStore(path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another gateway") {
		t.Errorf("error %v", err)
	}
}

func TestADamagedEntryCostsNoMoreThanItself(t *testing.T) {
	m := idle(t, newWorld(t, nil).mesh)
	state := stateOf(t, west1, 7, []mesh.Export{serving("west", "shop/orders", 2)})
	d := state.Whole()
	d.Records = nil
	m.memory.restore(&saved{
		Origins:  map[mesh.GatewayID]savedOrigin{west1: {Floor: state.Head().Version, Delta: d}},
		Gateways: map[mesh.GatewayID]core.KnownGateway{west1: {Advertise: "10.0.0.2:7443"}},
	}, 1)
	if g := gatewayOf(m.core.unlocked.View(), west1); holds(m, west1) != nil || g == nil || g.Advertise != "10.0.0.2:7443" {
		t.Errorf("restored %+v: want the address without the records", g)
	}
	m.core.apply(core.Received{State: state})
	if holds(m, west1) != nil {
		t.Error("the floor is lost: what was held came back")
	}
	m.core.apply(core.Received{State: state.Again()})
	if holds(m, west1) == nil {
		t.Error("a newer version is not taken")
	}
}

// damages are ways in which a file system, a disk or a person damages a file.
var damages = map[string]func(r *rand.Rand, b []byte) []byte{
	"cut at a page boundary": func(r *rand.Rand, b []byte) []byte { return b[:r.IntN(len(b)/4096)*4096] },
	"cut anywhere":           func(r *rand.Rand, b []byte) []byte { return b[:r.IntN(len(b))] },
	"page zeroed": func(r *rand.Rand, b []byte) []byte {
		clear(b[r.IntN(len(b)/4096)*4096:][:4096])
		return b
	},
	"page header overwritten": func(r *rand.Rand, b []byte) []byte {
		at := r.IntN(len(b)/4096) * 4096
		for i := range 16 {
			b[at+i] = byte(r.Uint32())
		}
		return b
	},
	"page header all ones": func(r *rand.Rand, b []byte) []byte {
		at := r.IntN(len(b)/4096) * 4096
		for i := range 16 {
			b[at+i] = 0xff
		}
		return b
	},
	"page of noise": func(r *rand.Rand, b []byte) []byte {
		at := r.IntN(len(b)/4096) * 4096
		for i := range 4096 {
			b[at+i] = byte(r.Uint32())
		}
		return b
	},
	"pages swapped": func(r *rand.Rand, b []byte) []byte {
		x, y := b[r.IntN(len(b)/4096)*4096:][:4096], b[r.IntN(len(b)/4096)*4096:][:4096]
		kept := slices.Clone(x)
		copy(x, y)
		copy(y, kept)
		return b
	},
	"bits flipped": func(r *rand.Rand, b []byte) []byte {
		for range 1 + r.IntN(8) {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
		return b
	},
	"bits of a page's structure flipped": func(r *rand.Rand, b []byte) []byte {
		b[r.IntN(len(b)/4096)*4096+r.IntN(64)] ^= 1 << r.IntN(8)
		return b
	},
	"garbage behind": func(r *rand.Rand, b []byte) []byte { return append(b, make([]byte, r.IntN(10000))...) },
}

func TestNoDamageToTheStateFileKeepsAGatewayFromStarting(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	s := open(t, path)
	for i := range 40 {
		id := mesh.GatewayID{Cluster: mesh.ClusterName(fmt.Sprintf("c%d", i)), Name: "gw"}
		state := stateOf(t, id, 7, []mesh.Export{serving(id.Cluster, "shop/orders", 2), serving(id.Cluster, "shop/cart", 2)})
		err := s.save(&changes{
			Origins:  map[mesh.GatewayID]*savedOrigin{id: {Floor: state.Head().Version, Delta: state.Whole()}},
			Gateways: map[mesh.GatewayID]*core.KnownGateway{id: {Advertise: "10.0.0.2:7443"}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.saveEpoch(41); err != nil {
		t.Fatal(err)
	}
	s.Close()
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(sound) < 10*4096 {
		t.Fatalf("the file has only %d bytes: no tree to damage", len(sound))
	}
	rounds := 60
	if raceEnabled { // five times as slow
		rounds = 12
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 0))
			for range rounds {
				if err := os.WriteFile(path, damage(r, slices.Clone(sound)), 0o600); err != nil {
					t.Fatal(err)
				}
				s, err := openStore(path, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.load(slog.New(slog.DiscardHandler)); err != nil {
					t.Fatal(err)
				}
				for try := 0; ; try++ { // damage that only a write meets costs one
					err := s.saveEpoch(42)
					if err == nil {
						err = s.save(&changes{Gateways: map[mesh.GatewayID]*core.KnownGateway{west1: {Advertise: "10.0.0.9:7443"}}})
					}
					if err == nil {
						break
					}
					if try == 2 {
						t.Fatal(err)
					}
				}
				if got, err := s.load(slog.New(slog.DiscardHandler)); err != nil || got.Epoch != 42 {
					t.Fatalf("read back %+v, %v", got, err)
				}
				_ = s.Close()
			}
		})
	}
}

// smallDisk returns a folder on a disk of its own, and how to fill that up to the
// last page and to make room again.
func smallDisk(t *testing.T) (dir string, fill, empty func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		harness.Lacking(t, "needs root, to mount a small file system")
	}
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	filler := filepath.Join(dir, "filler")
	fill = func() {
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, os.Getpagesize()))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	return dir, fill, func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFullDiskAtTheFirstStartIsNoReasonNotToServe(t *testing.T) {
	dir, fill, empty := smallDisk(t)
	fill()
	s := open(t, filepath.Join(dir, "federation.db"))
	log := slog.New(slog.DiscardHandler)
	if was, err := s.load(log); err != nil || was.Epoch != 0 {
		t.Fatalf("load: %+v, %v", was, err)
	}
	if err := s.saveEpoch(7); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("saveEpoch on a full disk: %v", err)
	}
	empty()
	if err := s.saveEpoch(8); err != nil {
		t.Errorf("saveEpoch when there is room again: %v", err)
	}
	if was, err := s.load(log); err != nil || was.Epoch != 8 {
		t.Errorf("load: %+v, %v", was, err)
	}
}

func FuzzAStateFileIsExaminedWithinItsBytes(f *testing.F) {
	path := filepath.Join(f.TempDir(), "state.db")
	s, err := openStore(path, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	_ = s.saveEpoch(1)
	_ = s.Close()
	sound, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound)
	f.Fuzz(func(t *testing.T, b []byte) { _ = checkTree(b) })
}
