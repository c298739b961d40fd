package gateway

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestImportsThatLeaveOutAllOfAClusterAreNamedUnlessTheySayNothing(t *testing.T) {
	origin := func(cluster mesh.ClusterName, taken, not int) federation.Origin {
		return federation.Origin{ID: mesh.GatewayID{Cluster: cluster, Name: "g"}, Records: make([]mesh.Export, taken), NotImported: not}
	}
	view := &federation.View{Origins: []federation.Origin{origin("a", 0, 2), origin("b", 1, 2), origin("c", 0, 0), origin("d", 0, 1), origin("e", 0, 3)}}
	some := []mesh.Import{{Namespace: "shop"}}
	got := nothingImported(view, mesh.Imports{"b": some, "c": some, "d": {}, "e": some, mesh.AnyCluster: some})
	if want := []mesh.ClusterName{"a", "e"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := nothingImported(view, nil); len(got) > 0 {
		t.Errorf("without imports: %v", got)
	}
}
