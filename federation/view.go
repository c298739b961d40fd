package federation

import (
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What [Federation.View] gives. They are package core's, which makes them.
type (
	View          = core.View
	Gateway       = core.Gateway
	Tunnel        = core.Tunnel
	Origin        = core.Origin
	ClusterExport = core.ClusterExport
)

// NewView returns the view of gateway self that knows gateways and origins, both
// sorted by ID. It keeps them.
func NewView(self mesh.GatewayID, gateways []Gateway, origins []Origin) *View {
	return core.NewView(self, gateways, origins)
}
