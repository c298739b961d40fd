//go:build ignore

// connect(2) to an IPv4 address, TCP and UDP.
#include "capture.h"

SEC("cgroup/connect4")
int isthmus_connect4(struct bpf_sock_addr *ctx)
{
	return capture4(ctx, true);
}
