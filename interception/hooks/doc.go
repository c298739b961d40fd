// Package hooks attaches the eBPF programs to the program's cgroup and network
// namespace, pins them, and is the sidecar's side of them: its sockets, its dials to
// the program, the original destinations, and the counters. It also finds out whether
// this machine can do that.
//
//   - Root attaches ([Attach], [Detach], [Probe]): load.go, links.go, pins.go.
//   - The agent of a node attaches for a pod ([AttachPod]): pod.go, and podsockets.go for what
//     listened before.
//   - A sidecar opens ([Open], [Handle]): open.go, claim.go, serve.go, dial.go.
package hooks
