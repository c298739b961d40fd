package kubernetes

import "time"

const (
	// sidecarPort is where the sidecar of a pod takes mesh traffic.
	sidecarPort = 15008
	// quiet is the time between two published sets: a rollout changes many slices at
	// once. The first change after it is published at once.
	quiet = 100 * time.Millisecond
	// retryStatus is the pause after a status that could not be written.
	retryStatus = 5 * time.Second

	// The reasons of a condition Accepted that is false: there is a fault in the resource, or a
	// Service of Kubernetes has its name.
	reasonInvalid = "Invalid"
	reasonTaken   = "ServiceExists"

	// manager is who writes conditions, as metadata.managedFields say it.
	manager = "isthmus-discovery"
)
