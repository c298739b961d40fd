// Package sockmap accelerates connections between the program and its sidecar: what one
// end sends is redirected into the receive queue of the other end, and TCP carries
// nothing (the sk_msg program of bpf/sk_msg.c).
//
// A redirected byte can be lost or can fill the memory in three ways. Each is prevented:
//
//   - Order. A reader gets redirected bytes before bytes that TCP carried. So nothing is
//     redirected while bytes of TCP may be unread. The program's first bytes, sent before
//     the sidecar's end was ready, go by TCP; the sidecar tells the hooks once when it
//     has read all of them (the map caught_up).
//   - Memory. TCP's window does not count redirected messages: 512 MiB were queued for a
//     reader that had stopped. So one end may have at most 256 KiB redirected until the
//     other end sends something (the map flows). The rest of that connection goes by
//     TCP, with its windows. A program that always sends and never reads is bounded by
//     the host's tcp_mem only.
//   - Calls that do not see redirected bytes: splice(2) and some rarer ones. The sidecar
//     does not use them, and whoever switches acceleration on vouches for the program.
//     Package sidecar enforces it by seccomp, for programs that it starts.
//
// One thing depends on the program. A read that blocks in the kernel behaves differently
// on such a socket (tcp_bpf_recvmsg, as of Linux 6.18): it fails with EAGAIN when the
// sidecar resets or when another thread's write wakes it, and MSG_WAITALL returns early.
// So the program must read without blocking, as event loops do and the runtimes that
// have one: nginx, Node.js, Go, Netty.
//
// [Handle.Try] tests all of it on this kernel before it is used. Redirecting one
// direction only would ask nothing of the program, but gains nothing: TCP then spends
// what was saved on acknowledgements of the answers.
package sockmap
