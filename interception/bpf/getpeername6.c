//go:build ignore

// getpeername(2) of an IPv6 socket.
#include "capture.h"

SEC("cgroup/getpeername6")
int isthmus_getpeername6(struct bpf_sock_addr *ctx)
{
	return restore6(ctx);
}
