//go:build ignore

// A datagram that names its IPv6 destination. (The kernel hands IPv4-mapped ones
// to sendmsg4.)
#include "capture.h"

SEC("cgroup/sendmsg6")
int isthmus_sendmsg6(struct bpf_sock_addr *ctx)
{
	return capture6(ctx, false);
}
