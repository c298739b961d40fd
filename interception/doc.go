// Package interception puts a sidecar beside a program that does not know: the
// program's connections to addresses of the mesh arrive at the sidecar, and so
// do connections to the program's ports. It is done by eBPF programs on the
// program's cgroup, and nothing else of the host is touched.
//
//	           program's cgroup                          sidecar (other cgroup)
//	connect(240.66.0.7:80)
//	  connect4: captured? sidecar there? ──────────▶ 127.0.0.1:15001
//	  sockops:  [source port] = 240.66.0.7:80 ─────▶ OriginalDestination(peer)
//	getpeername ◀── 240.66.0.7:80
//	sendto(10.0.0.2:53)
//	  sendmsg4: port 53? ──────────────────────────▶ 127.0.0.1:15053
//	recvfrom    ◀── from 10.0.0.2:53
//	listen(:8080)
//	  ◀── dial of the sidecar passes ──────────────── DialProgram(for 192.0.2.7:4711)
//	accept ◀── 192.0.2.7:4711
//	      everybody else's SYN, sk_lookup ─────────▶ inbound listener
//
// This package is what callers use, whichever way interception is done. Package hooks
// has the eBPF programs, their pins and the sidecar's side of them; package sockmap
// accelerates what the hooks capture; package nft is an nftables table, where eBPF
// cannot be had; package bpf has the C code, and the types and maps that hooks and
// sockmap share.
//
// # Lifecycle
//
// [Attach] needs root and runs once: it loads the programs, attaches them and pins
// everything under one directory of a bpffs, so that nothing depends on a process.
// [Start] is the sidecar's side. It opens the pinned maps, which belong to the user
// that Attach was given; a sidecar that runs as root attaches by itself.
// [Handle.Serve] puts the sidecar's listening sockets into a socket map. The kernel
// removes them when they close, also after kill -9, so the programs know at once that
// no sidecar is there. Then onFailure decides: closed refuses (ECONNREFUSED), open lets
// traffic by as if nothing were attached. A sidecar that comes back only opens and
// serves again. Attach on existing pins replaces each program under its link,
// atomically; established connections are not affected, since every hook acts when a
// connection is made. [Detach] removes everything.
//
// closed holds for DNS too: a name of the mesh that another resolver answers
// would be a connection past the sidecar.
//
// # What is not captured
//
// UDP to a captured address is refused (the mesh carries TCP), except DNS on
// port 53. Names looked up without DNS packets, by nss-resolve over its own
// socket for example, do not pass the sidecar's resolver. A socket of another
// network namespace is never sent to the sidecar: its loopback is another one. Nor is
// one that is bound to a device (SO_BINDTODEVICE), whose packets do not get to loopback:
// onFailure decides, at once.
// A multipath TCP socket is captured, but getpeername shows it the sidecar: the
// kernel keeps the original address with the subflow, which has no hook.
//
// # Inbound
//
// A port of the program is steered whatever the address of this network namespace
// that a caller uses, and from loopback too: one number can be one program's only.
// What passes are the sidecar's own dials and those of programs in the cgroup, which
// may well call themselves.
//
// [Handle.DialProgram] can show the program who called, by accept(2) and
// getpeername(2), where that is one caller: not on a connection that the sidecar
// uses for one request after the other, not for a caller of the other address family
// than the program's socket, and not to a program in another cgroup. ss(8) and
// packet filters see loopback. Nothing of it takes a privilege; the usual way,
// IP_TRANSPARENT, takes CAP_NET_ADMIN on every dial and routes for the answers.
//
// # Fallback
//
// [NFTables] does the outbound half, where eBPF cannot be had. It costs every
// connection of the network namespace a conntrack entry, knows only closed, and needs
// root when the sidecar starts and ends.
//
// # Pods
//
// The sidecar of a Kubernetes pod shares its network namespace, has no privilege and sees no
// pins. Somebody else brings the traffic to its fixed ports: [AttachPod] by hooks on the pod's
// cgroup, from the host, or [RedirectPod] by an nftables table, from an init container.
//
//	             any program of the pod          sidecar (same cgroup, user 15000)
//	connect(240.66.0.7:80) ───────────────────────▶ 127.0.0.1:15001   getsockopt(SO_ORIGINAL_DST)
//	sendto(10.43.0.10:53) ────────────────────────▶ 127.0.0.1:15053
//	listen(:8080)  ◀── 127.0.0.1, own address ────── dial
//	               ◀── the node, if the kubelet asks the programs and not the sidecar
//	               everybody else's SYN ──────────▶ :15006            LocalAddr, or SO_ORIGINAL_DST
//
// The hooks tell the sidecar by its user. sock_create marks its sockets and sockops puts those
// that listen into the socket map, so that a sidecar that comes back needs nobody; one that
// listened before the hooks is found by AttachPod. All ports of the pod are steered but the
// sidecar's own and those that are excluded. The sidecar finds out that it is captured by dialling
// itself at a captured address, at port 15001, at which alone its own connections are captured.
//
// Which further addresses are captured the sidecar says as it runs, exact to the port:
// [CaptureAlso].
//
// No packet says which process of the node it is from. So who comes from an address of the node
// is a stranger like any other, a caller of a NodePort for example, and injected pods have the
// kubelet ask the sidecar (package sidecar/probes). Only a pod whose probes are as
// they were written, one that is not injected, has the node pass, and with it everybody there.
// A program that runs as user 15000 is not captured.
//
// # Kernels
//
// Linux 5.10 or newer with cgroup v2 mounted, alone or beside v1 ("hybrid").
// Neither BTF of the kernel nor CO-RE is needed: the hooks read only their stable
// contexts. Before 5.18 a refusal is EPERM and not ECONNREFUSED; before 6.0 the
// sidecar needs CAP_BPF. Attach needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, to give the
// pins to another user CAP_CHOWN, CAP_FOWNER and CAP_DAC_OVERRIDE, and CAP_SYS_ADMIN
// only where it has to mount the bpffs. [Probe] says what this machine can do. AttachPod
// needs the first three, and CAP_SYS_PTRACE.
package interception
