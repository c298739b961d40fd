package kube

// Labels that one part of Isthmus writes and another reads.
const (
	// SidecarLabel is "true" on a pod that has a sidecar: the webhook writes it.
	SidecarLabel = "isthmus.io/sidecar"
	// ImportLabel is on a Service that stands for a service of other clusters, and names
	// its ServiceImport. It is none of its own cluster's.
	ImportLabel = "isthmus.io/service-import"
)
