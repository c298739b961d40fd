package federation

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestMetricsNameEveryOrigin(t *testing.T) {
	f := idle(t, identitytest.New(t, "mesh.example"))
	reg := prometheus.NewPedanticRegistry()
	f.cfg.Metrics = reg
	if _, err := newMetrics(f); err != nil {
		t.Fatal(err)
	}
	state := stateOf(t, west1, 7, []mesh.Export{serving("west", "shop/orders", 2)})
	f.core.apply(core.Gossip{Gateway: west1, Alive: true, Known: true, Meta: core.Meta{Version: state.Head().Version, Digest: state.Head().Digest}})
	f.core.apply(core.Synced{Origins: []catalog.Head{state.Head()}})
	f.core.apply(core.Received{State: state, Exports: state.Exports()})
	f.view.Set(f.core.unlocked.Step(time.Now()).View)
	want := `
# HELP isthmus_catalog_age_seconds For how long an origin's catalog has not been known to be up to date; 0 while it is.
# TYPE isthmus_catalog_age_seconds gauge
isthmus_catalog_age_seconds{origin="west/west-1"} 0
# HELP isthmus_catalog_records Services in an origin's catalog.
# TYPE isthmus_catalog_records gauge
isthmus_catalog_records{origin="west/west-1"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "isthmus_catalog_age_seconds", "isthmus_catalog_records"); err != nil {
		t.Error(err)
	}
	if said, err := testutil.GatherAndLint(reg); err != nil || len(said) > 0 {
		t.Errorf("metrics are not named as Prometheus expects: %v, %v", said, err)
	}
}
