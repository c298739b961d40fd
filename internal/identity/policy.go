package identity

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// PeerPolicy says whether a member of our trust domain may play the role that a
// connection asks for. Its error says what was expected and who came.
type PeerPolicy func(ID) error

// AnyMember accepts every gateway and workload of the trust domain.
func AnyMember() PeerPolicy { return func(ID) error { return nil } }

// AnyGateway accepts every gateway.
func AnyGateway() PeerPolicy { return expect("a gateway", ID.IsGateway) }

// AnyWorkload accepts every workload.
func AnyWorkload() PeerPolicy {
	return expect("a workload", func(id ID) bool { return !id.IsGateway() })
}

// WorkloadOf accepts the workloads of one cluster.
func WorkloadOf(cluster mesh.ClusterName) PeerPolicy {
	return expect(fmt.Sprintf("a workload of cluster %s", cluster), func(id ID) bool {
		return !id.IsGateway() && id.Cluster == cluster
	})
}

// GatewayOf accepts the gateways of one cluster.
func GatewayOf(cluster mesh.ClusterName) PeerPolicy {
	return expect(fmt.Sprintf("a gateway of cluster %s", cluster), func(id ID) bool {
		return id.IsGateway() && id.Cluster == cluster
	})
}

// ExactGateway accepts one gateway.
func ExactGateway(gw mesh.GatewayID) PeerPolicy {
	return expect(fmt.Sprintf("gateway %s", gw), func(id ID) bool {
		return id.IsGateway() && id.GatewayID() == gw
	})
}

// OneOf accepts the given SPIFFE IDs and, when there are none, nobody. It keeps
// ids, which must not change.
func OneOf(ids []string) PeerPolicy {
	return expect(oneOf(ids), func(id ID) bool { return slices.Contains(ids, id.String()) })
}

func oneOf(ids []string) string {
	const shown = 3
	switch {
	case len(ids) == 0:
		return "nobody, because no identity is known for this destination"
	case len(ids) == 1:
		return ids[0]
	case len(ids) <= shown:
		return "one of " + strings.Join(ids, ", ")
	}
	return fmt.Sprintf("one of %s and %d more", strings.Join(ids[:shown], ", "), len(ids)-shown)
}

func expect(whom string, ok func(ID) bool) PeerPolicy {
	return func(id ID) error {
		if ok(id) {
			return nil
		}
		return fmt.Errorf("expected %s, but the peer is %s", whom, id)
	}
}
