package gossip

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Port is the port in memberlist's addresses. Like the addresses it means nothing:
// see [NodeAddr].
const Port = 7443

// NodeName is a gateway's name in memberlist. The cluster has no dots.
func NodeName(id mesh.GatewayID) string { return string(id.Cluster) + "." + string(id.Name) }

// ParseNodeName reads what NodeName wrote.
func ParseNodeName(s string) (mesh.GatewayID, error) {
	cluster, name, ok := strings.Cut(s, ".")
	if !ok {
		return mesh.GatewayID{}, errors.New("node name is not cluster.gateway")
	}
	return mesh.ParseGatewayID(cluster + "/" + name)
}

// NodeAddr is a gateway's address in memberlist, a number made from its name.
// memberlist takes a second address under one name for a conflict and keeps the
// first; gateways change theirs when they restart elsewhere, and where they are
// is what their tunnels say.
func NodeAddr(id mesh.GatewayID) net.IP {
	sum := sha256.Sum256([]byte(NodeName(id)))
	ip := net.IP(sum[:net.IPv6len])
	ip[0] = 0xfd // unique local, RFC 4193
	return ip
}

// JoinAddress is what memberlist.Join takes.
func JoinAddress(id mesh.GatewayID) string {
	return fmt.Sprintf("%s/[%s]:%d", NodeName(id), NodeAddr(id), Port)
}
