// Package kubernetes finds the services of this cluster in its Kubernetes API server.
//
//	Services, EndpointSlices, Pods, ServiceExports ──translate──▶ [discovery.Service]
//	isthmus.io Services, AuthorizationPolicies ──package resource──▶ [discovery.Described], policies
//
// Every Service with endpoints is one of the mesh, but for ExternalNames and those that stand
// for services of other clusters. Its TCP ports count; what they speak, appProtocol says, or
// else the port's name (protocol.go). A pod with a sidecar is an endpoint at the
// sidecar's port, with the identity of its service account; every other endpoint is a plain
// one, at its target port. Which are ready, the kubelet and the API say: nothing is
// checked by the gateway. A ServiceExport of its name tells other clusters of a Service.
//
// All of it is followed by watches ([kube.Follow]) and published whole, at most every tenth
// of a second. When the API server is away, what it said last stays.
package kubernetes
