package gateway

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestWhetherACallersClusterVouchesForItIsWhatItsGatewaysShow(t *testing.T) {
	var view federation.View
	for _, shown := range []struct {
		cluster    mesh.ClusterName
		domain     string
		namespaces []string
	}{
		{"any", "mesh.example", nil}, {"some", "mesh.example", []string{"front"}}, {"other", "mesh.example", []string{"zoo"}},
		{"mixed", "mesh.example", []string{"zoo"}}, {"mixed", "mesh.example", nil}, {"far", "other.example", nil},
	} {
		id := identity.ID{TrustDomain: shown.domain, Cluster: shown.cluster, Gateway: "g"}
		view.Origins = append(view.Origins, federation.Origin{Signer: identity.Peer{ID: id, Namespaces: shown.namespaces}})
	}
	for cluster, want := range map[mesh.ClusterName][2]bool{
		"any": {false, true}, "some": {false, true}, "other": {true, true}, "mixed": {false, false}, "far": {false, false}, "unheard": {false, false},
	} {
		not, known := unvouched(&view, identity.ID{TrustDomain: "mesh.example", Cluster: cluster, Namespace: "front", ServiceAccount: "web"})
		if got := [2]bool{not, known}; got != want {
			t.Errorf("%s: unvouched, known are %v, want %v", cluster, got, want)
		}
	}
}
