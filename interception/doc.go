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
// # Life
//
// [Attach] needs root and runs once: it loads the programs, attaches them and
// pins everything under one directory of a bpffs, so that nothing depends on a
// process. [Open] is the sidecar's side and takes the pinned maps, which belong
// to the user that Attach was given. [Interception.Serve] puts the sidecar's
// listening sockets into a socket map; the kernel takes them out when they
// close, also by kill -9, and this is how the programs know at once that no
// sidecar is there. Then onFailure decides: closed refuses (ECONNREFUSED), open
// lets traffic by as if nothing were attached. A sidecar that comes back only
// opens and serves again. Attach on existing pins replaces each program under
// its link, atomically; established connections are not concerned, since every
// hook acts when a connection is made. [Detach] removes it all.
//
// closed holds for DNS too: a name of the mesh that another resolver answers
// would be a connection past the sidecar.
//
// # What is not captured
//
// UDP to a captured address is refused (the mesh carries TCP), except DNS on
// port 53. Names looked up without DNS packets, by nss-resolve over its own
// socket for example, do not pass the sidecar's resolver. A socket of another
// network namespace is never sent to the sidecar: its loopback is another one.
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
// [Interception.DialProgram] can show the program who called, by accept(2) and
// getpeername(2), where that is one caller: not on a connection that the sidecar
// uses for one request after the other, not for a caller of the other address family
// than the program's socket, and not to a program in another cgroup. ss(8) and
// packet filters see loopback. Nothing of it takes a privilege; the usual way,
// IP_TRANSPARENT, takes CAP_NET_ADMIN on every dial and routes for the answers.
//
// # Fallback
//
// [Redirect] does the outbound half by nftables, where eBPF cannot be had. It
// costs every connection of the network namespace a conntrack entry, knows only
// closed, and needs root when the sidecar starts and ends.
//
// # Past TCP
//
// [Interception.Accelerate] has sk_msg put what one end of a connection between the
// program and the sidecar sends into the other end's queue, past TCP. Three things
// make that a way to lose or to hoard bytes, and each is answered:
//
//   - Who reads takes first what came past TCP. So nothing goes that way while
//     something that went by TCP may be unread: the program's first words, said
//     before the sidecar had its end ready, are by TCP, and the sidecar tells the
//     hooks once when it has read all of them (caught_up).
//   - A redirected message knows no window: 512 MiB were queued for a reader that
//     had stopped. So at most 256 KiB go past TCP until the other end says something
//     (flows); what comes then goes by TCP, with its windows, and for the rest of
//     the connection. A program that goes on talking and never reads is not bounded
//     by this, but by the host's tcp_mem only.
//   - splice(2) and some rarer calls do not see what came past TCP. The sidecar does
//     not use them, and whoever switches acceleration on vouches for the program;
//     package sidecar does it by seccomp, and so only for programs that it starts.
//
// What nobody can answer for the program: a read that blocks in the kernel is another
// one (tcp_bpf_recvmsg, as of Linux 6.18). It fails with EAGAIN where the sidecar
// resets, or when another thread's writing wakes it, and MSG_WAITALL returns early.
// So the program must be one that reads without blocking, as event loops do and the
// runtimes that have one: nginx, Node.js, Go, Netty.
//
// [Interception.TryAcceleration] tries all of it on this kernel before it is used.
// One direction alone would need no word of the program, but gains nothing: what it
// saves, the answers' TCP then spends on acknowledgements of its own.
//
// # Kernels
//
// Linux 5.10 or newer with cgroup v2 mounted, alone or beside v1 ("hybrid").
// Neither BTF of the kernel nor CO-RE is needed: the hooks read only their stable
// contexts. Before 5.18 a refusal is EPERM and not ECONNREFUSED; before 6.0 [Open]
// needs CAP_BPF. Attach needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, to give the
// pins to another user CAP_CHOWN, CAP_FOWNER and CAP_DAC_OVERRIDE, and CAP_SYS_ADMIN
// only where it has to mount the bpffs. [Probe] says what this machine can do.
package interception

// The headers of libbpf-dev include asm/types.h, which Debian keeps in a directory
// per architecture: scripts/generate names it in BPF2GO_CFLAGS.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -tags linux -type endpoint -type settings -type prefix -type slot -type counter -type pair -type flow -type caught bpf bpf/interception.c -- -O2 -g -Wall -Werror
