package resource

const (
	maxEndpoints = 10_000 // of one service
	maxPorts     = 100    // of one service
	maxAccounts  = 100    // that serve one service
	maxParents   = 32     // of one route
	maxGrants    = 1000   // of one ReferenceGrant
)
