package identitytest

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// AnyWorkload accepts every workload. No process does: they ask whose it is.
func AnyWorkload() identity.PeerPolicy {
	return expect("a workload", identity.ID.IsWorkload)
}

// WorkloadOf accepts the workloads of one cluster.
func WorkloadOf(cluster mesh.ClusterName) identity.PeerPolicy {
	return expect(fmt.Sprintf("a workload of cluster %s", cluster), func(id identity.ID) bool {
		return id.IsWorkload() && id.Cluster == cluster
	})
}

func expect(whom string, ok func(identity.ID) bool) identity.PeerPolicy {
	return func(p identity.Peer) error {
		if ok(p.ID) {
			return nil
		}
		return fmt.Errorf("expected %s, but the peer is %s", whom, p.ID)
	}
}
