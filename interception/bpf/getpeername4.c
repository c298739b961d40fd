//go:build ignore

// getpeername(2) of an IPv4 socket.
#include "capture.h"

SEC("cgroup/getpeername4")
int isthmus_getpeername4(struct bpf_sock_addr *ctx)
{
	return restore4(ctx);
}
