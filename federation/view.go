package federation

import "github.com/isthmus-mesh/isthmus/federation/core"

// What [Federation.View] gives. They are package core's, which makes them.
type (
	View          = core.View
	Gateway       = core.Gateway
	Tunnel        = core.Tunnel
	Origin        = core.Origin
	ClusterExport = core.ClusterExport
)
