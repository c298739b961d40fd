// Package inject gives a pod its sidecar: pod in, patch out. It has no clock, no I/O and no
// state, so that the webhook and 'isthmus inject' do the same.
//
// The sidecar is a native one: an init container with restartPolicy Always (Kubernetes 1.29
// and later). It comes before every other init container, which thereby have the mesh, and
// its startup probe holds them, and the program, until the pod's traffic is captured. The
// kubelet ends it after the program, and a Job completes although it runs.
//
// Everything that the sidecar has to know stands in its environment (ISTHMUS_…): a pod needs
// no ConfigMap in its namespace. The kubelet gives it a token of the pod's service account
// for the audience "isthmus", by which isthmus ca knows who it is.
//
// A pod that has a sidecar is left as it is. What cannot have one (a pod of the host's
// network, of Windows) is left as well, and an annotation says why. What would not work, and
// what nobody can have meant, is an error: the pod is refused, and its owner reads why.
package inject
