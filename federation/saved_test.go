package federation

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// stateful returns a federation that does not run and keeps its state at path.
func stateful(t *testing.T, path string) *Federation {
	t.Helper()
	f := idle(t, newWorld(t, nil).mesh)
	f.memory.path = path
	if err := f.memory.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.memory.store.Close() })
	return f
}

// learn tells f of a gateway and gives it its catalog.
func learn(t *testing.T, f *Federation, id mesh.GatewayID) {
	t.Helper()
	s := stateOf(t, id, 7, []mesh.Export{serving(id.Cluster, "shop/orders", 2)})
	f.core.apply(core.Tunnels{{Gateway: id, Tunnel: core.Tunnel{Up: true, Since: time.Now()}}})
	f.core.apply(core.Synced{Gateway: id, Origins: []catalog.Head{s.Head()}, Advertise: "10.0.0.2:7443"})
	f.core.apply(core.Received{State: s, Exports: s.Exports()})
}

// mustHold fails unless the state file holds all that f knows.
func mustHold(t *testing.T, f *Federation, path string, ids ...mesh.GatewayID) {
	t.Helper()
	if err := f.memory.store.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, path).load(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if epoch := f.core.unlocked.Own().State.Head().Version.Epoch; got.Epoch != epoch {
		t.Errorf("epoch %d is kept, want %d", got.Epoch, epoch)
	}
	for _, id := range ids {
		if o := got.Origins[id]; o.Delta == nil || o.Floor != (catalog.Version{Epoch: 7, Seq: 1}) || got.Gateways[id].Advertise == "" || got.Confirmed[id].IsZero() {
			t.Errorf("of %s is kept: %+v, %+v, %v", id, o, got.Gateways[id], got.Confirmed[id])
		}
	}
}

func TestWhatCouldNotBeWrittenWhileTheDiskWasFullIsWrittenLater(t *testing.T) {
	for name, late := range map[string]bool{"full at the start": false, "full later": true} {
		t.Run(name, func(t *testing.T) {
			dir, fill, empty := smallDisk(t)
			path := filepath.Join(dir, "federation.db")
			if !late {
				fill()
			}
			f := stateful(t, path)
			if late {
				f.memory.saver.Changed()
				if err := f.memory.saver.Save(); err != nil {
					t.Fatal(err)
				}
				fill()
			}
			var ids []mesh.GatewayID
			for i := range 100 { // more than the file has room for
				id := mesh.GatewayID{Cluster: mesh.ClusterName(fmt.Sprintf("c%d", i)), Name: "gw"}
				learn(t, f, id)
				ids = append(ids, id)
			}
			f.memory.saver.Changed()
			for range 2 {
				if err := f.memory.saver.Save(); !errors.Is(err, unix.ENOSPC) {
					t.Fatalf("save on a full disk: %v", err)
				}
			}
			if !errors.Is(f.StateErr(), unix.ENOSPC) {
				t.Errorf("it is not said: %v", f.StateErr())
			}
			empty()
			if err := f.memory.saver.Save(); err != nil || f.StateErr() != nil {
				t.Fatalf("save when there is room again: %v, said: %v", err, f.StateErr())
			}
			mustHold(t, f, path, ids...)
		})
	}
}

func TestAStateFileThatIsDamagedWhileItIsUsedIsWrittenAnewWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "federation.db")
	f := stateful(t, path)
	var ids []mesh.GatewayID
	for i := range 60 {
		id := mesh.GatewayID{Cluster: mesh.ClusterName(fmt.Sprintf("c%d", i)), Name: "gw"}
		learn(t, f, id)
		ids = append(ids, id)
	}
	f.memory.saver.Changed()
	if err := f.memory.saver.Save(); err != nil {
		t.Fatal(err)
	}
	// Every page but the two heads becomes noise under the feet of the database.
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 2 * os.Getpagesize(); i < len(b); i++ {
		b[i] = 0xff
	}
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	learn(t, f, west1)
	f.memory.saver.Changed()
	if err := f.memory.saver.Save(); !errors.Is(err, errDamaged) {
		t.Fatalf("save on a damaged file: %v", err)
	}
	if err := f.memory.saver.Save(); err != nil {
		t.Fatalf("the next save: %v", err)
	}
	mustHold(t, f, path, append(ids, west1)...)
}
