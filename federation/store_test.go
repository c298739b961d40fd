package federation

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
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
		Keys: keyring{newKey(5)},
		Origins: map[mesh.GatewayID]*savedOrigin{
			west1: {Floor: state.Head().Version, Delta: state.Whole()},
			gone:  {Floor: catalog.Version{Epoch: 3, Seq: 4}},
		},
		Confirmed: map[mesh.GatewayID]time.Time{west1: at, gone: at},
		Gateways:  map[mesh.GatewayID]*savedGateway{west1: {Advertise: "10.0.0.2:7443", Seen: at}, gone: {Advertise: "10.0.0.3:7443", Seen: at}},
	}
	if err := s.save(want); err != nil {
		t.Fatal(err)
	}
	if err := s.saveEpoch(41); err != nil {
		t.Fatal(err)
	}
	if err := s.save(&changes{Gateways: map[mesh.GatewayID]*savedGateway{gone: nil}}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	got, err := open(t, path).load(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got.Epoch != 41 || !got.Keys.equal(want.Keys) || len(got.Gateways) != 1 || !got.Confirmed[west1].Equal(at) {
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
	m.restoreLocked(&saved{
		Origins:  map[mesh.GatewayID]savedOrigin{west1: {Floor: state.Head().Version, Delta: d}},
		Gateways: map[mesh.GatewayID]savedGateway{west1: {Advertise: "10.0.0.2:7443"}},
	})
	if o := m.origins[west1]; o == nil || o.state != nil || o.floor != state.Head().Version {
		t.Errorf("restored %+v: want the floor without the records", o)
	}
}
