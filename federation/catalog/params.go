package catalog

// Bounds on what one origin may say. They hold for this gateway's own records,
// before they are sent, and for everybody else's, before they are kept.
const (
	// MaxRecords is the number of services one gateway may export. Bigger
	// clusters are unknown to us; the Kubernetes scalability limit is 10,000.
	MaxRecords = 10_000
	// MaxRecordBytes bounds one record: room for 64 ports or some 500 identities.
	MaxRecordBytes = 64 << 10
	// MaxStateBytes bounds the JSON of all records of one origin.
	MaxStateBytes = 12 << 20
	// MaxPullBytes bounds a decompressed delta on the wire: a whole state plus
	// names, sequence numbers and the signature.
	MaxPullBytes = 16 << 20
	// MaxTombstones is how many removals are remembered, so that a holder that
	// missed fewer can be given a delta.
	MaxTombstones = 1024
	// MaxPorts is the number of ports in one record.
	MaxPorts = 64
	// MaxIdentities is the number of identities of one port. With more
	// instances than this under one identity each, nobody has met it yet.
	MaxIdentities = 1024
	// maxNameBytes bounds the name of a record: two labels, or what a later version thinks of.
	maxNameBytes = 256
	// maxIdentityBytes is SPIFFE's own limit for an ID.
	maxIdentityBytes = 2048
)
