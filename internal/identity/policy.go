package identity

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// PeerPolicy says whether a member of our trust domain may play the role that a
// connection asks for. Its error says what was expected and who came.
type PeerPolicy func(Peer) error

// AnyMember accepts every gateway and workload of the trust domain. A CA is none: it
// calls nobody and serves only who asks for a certificate, under [CAOf].
func AnyMember() PeerPolicy {
	return expect("a gateway or a workload", func(id ID) bool { return !id.IsCA() })
}

// AnyGateway accepts every gateway.
func AnyGateway() PeerPolicy { return expect("a gateway", ID.IsGateway) }

// WorkloadOrCAOf accepts the workloads and the CAs of one cluster: whom its gateways tell
// who is trusted.
func WorkloadOrCAOf(cluster mesh.ClusterName) PeerPolicy {
	return expect(fmt.Sprintf("a workload or CA of cluster %s", cluster), func(id ID) bool {
		return !id.IsGateway() && id.Cluster == cluster
	})
}

// MemberOf accepts the gateways and workloads of one cluster.
func MemberOf(td string, cluster mesh.ClusterName) PeerPolicy {
	return expect(fmt.Sprintf("a gateway or workload of cluster %s of %s", cluster, td), func(id ID) bool {
		return !id.IsCA() && id.TrustDomain == td && id.Cluster == cluster
	})
}

// CAOf accepts the processes that issue the certificates of one cluster.
func CAOf(td string, cluster mesh.ClusterName) PeerPolicy {
	return expect(fmt.Sprintf("a CA of cluster %s of %s", cluster, td), func(id ID) bool {
		return id.IsCA() && id.TrustDomain == td && id.Cluster == cluster
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

// Answers accepts who may answer for a destination: of the given SPIFFE IDs, which a
// gateway has said, those that [Peer.CheckAnswer] lets pass, and only of the cluster
// that the destination names, if it names one. It keeps ids, which must not change.
func Answers(dest mesh.Destination, ids []string) PeerPolicy {
	listed := OneOf(ids)
	return func(p Peer) error {
		if err := listed(p); err != nil {
			return err
		}
		if dest.Cluster != "" && p.Cluster != dest.Cluster {
			return fmt.Errorf("expected somebody of cluster %s, but the peer is %s", dest.Cluster, p.ID)
		}
		return p.CheckAnswer(dest.Service.Namespace)
	}
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
	return func(p Peer) error {
		if ok(p.ID) {
			return nil
		}
		return fmt.Errorf("expected %s, but the peer is %s", whom, p.ID)
	}
}
