//go:build ignore

// A datagram that names its IPv4 destination: DNS by unconnected sockets.
// A socket that asks several servers, as musl does, has all its answers come from
// the server that it asked last.
#include "capture.h"

SEC("cgroup/sendmsg4")
int isthmus_sendmsg4(struct bpf_sock_addr *ctx)
{
	return capture4(ctx, false);
}
