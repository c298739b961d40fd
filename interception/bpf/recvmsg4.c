//go:build ignore

// A datagram's sender, as recvfrom(2) on an IPv4 socket tells it: resolvers drop an
// answer that is not from the server they asked.
#include "capture.h"

SEC("cgroup/recvmsg4")
int isthmus_recvmsg4(struct bpf_sock_addr *ctx)
{
	return restore4(ctx);
}
