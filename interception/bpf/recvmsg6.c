//go:build ignore

// A datagram's sender, as recvfrom(2) on an IPv6 socket tells it.
#include "capture.h"

SEC("cgroup/recvmsg6")
int isthmus_recvmsg6(struct bpf_sock_addr *ctx)
{
	return restore6(ctx);
}
