//go:build ignore

// A new socket. Who makes it is known here, and not when it listens.
#include "maps.h"

SEC("cgroup/sock_create")
int isthmus_sock_create(struct bpf_sock *ctx)
{
	struct settings *s = current_settings();

	if (s && is_sidecar(s))
		bpf_sk_storage_get(&made_by_sidecar, ctx, 0, BPF_SK_STORAGE_GET_F_CREATE);
	return 1;
}
