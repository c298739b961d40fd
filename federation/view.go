package federation

import "github.com/isthmus-mesh/isthmus/federation/core"

// What [Federation.View] gives. They are package core's, which makes them.
type (
	View          = core.View
	Tunnel        = core.Tunnel
	Origin        = core.Origin
	ClusterExport = core.ClusterExport
)
