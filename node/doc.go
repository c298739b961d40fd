// Package node is the agent of a Kubernetes node: it captures the pods that have a sidecar,
// from the host, before their programs start.
//
//	API server ──pods of this node──▶ wanted ──▶ step ──▶ interception.AttachPod
//	/sys/fs/cgroup ──kubepods/…/podUID──▶ find ──┘ │
//	/proc/PID/ns/net, uid_map ──────────▶ look ────┘
//
// A pod's cgroup appears with its sandbox, before any of its containers. As soon as a
// process is in it the hooks are attached, and pinned below /sys/fs/bpf/isthmus of the host under
// the pod's UID. So they stay while the agent is down or replaced; pods that start meanwhile
// wait, since their sidecars find out that nothing comes to them. When a pod has ended, its
// pins go.
//
// Everything of the host is reached through /proc/1/root, which takes the host's PID
// namespace, CAP_SYS_PTRACE, and no mount. The other capabilities are those that
// [interception.AttachPod] names.
//
// A pod's sandbox may be made anew, with another network namespace. That is looked at once a
// second: for so long callers may come past the mesh.
package node
