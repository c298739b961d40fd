//go:build ignore

// connect(2) to an IPv6 address, IPv4-mapped ones included.
#include "capture.h"

SEC("cgroup/connect6")
int isthmus_connect6(struct bpf_sock_addr *ctx)
{
	return capture6(ctx, true);
}
