package imports

import "time"

const (
	// manager is who writes, as metadata.managedFields say it.
	manager = "isthmus-imports"

	// labelManaged marks what this package made; its value is managedBy.
	labelManaged = "app.kubernetes.io/managed-by"
	managedBy    = "isthmus"

	// entranceAnnotation keeps, on a ServiceImport, on which port of the entrance each of its
	// ports is called. Not on the derived Service: who may write Services in one namespace
	// would say so for the imports of all.
	entranceAnnotation = "isthmus.io/entrance"

	// sliceManager is the value of endpointslice.kubernetes.io/managed-by.
	sliceManager = "imports.isthmus.io"

	// maxImports bounds the ServiceImports of a cluster: each is three objects at least, and
	// a port of the entrance or more.
	maxImports = 4096

	// settle is the wait after a change before it is written, so that changes that come
	// together are written once.
	settle = 100 * time.Millisecond
	// restPart is how many times as long as a look at what the writer has written took there is none again.
	restPart = 20

	// retry is the wait after a write that failed, and maxRetry after many, with jitter.
	retry    = time.Second
	maxRetry = 30 * time.Second

	// writerTime is how long a gateway that does not write waits until it writes EndpointSlices
	// that name a gateway which has gone: the writer does within settle.
	writerTime = 2 * time.Second

	// restFor is how long a port of the entrance rests before another service has it: far longer
	// than a node takes to hear that its EndpointSlice is gone.
	restFor = 5 * time.Minute

	// recheck is how often all is compared again without a change: what somebody else
	// has removed comes back by the watch, and what failed by itself does here.
	recheck = 5 * time.Minute
)
