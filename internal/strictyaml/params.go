package strictyaml

// Bounds on what is read. They are far above what people write by hand and far
// below what hurts.
const (
	MaxBytes  = 4 << 20 // of one source, checked before it is parsed
	maxDepth  = 64      // nested mappings and lists
	maxNodes  = 200_000 // values decoded from one document, aliases counted as often as they are used
	maxFaults = 100     // reported of one source
)
