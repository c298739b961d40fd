//go:build ignore

// A new connection to one of the program's ports: the sidecar gets it, except
// those that the sidecar makes itself.
#include "maps.h"

SEC("sk_lookup")
int isthmus_sk_lookup(struct bpf_sk_lookup *ctx)
{
	bool v4 = ctx->family == AF_INET;
	__u32 slot = v4 ? SLOT_INBOUND4 : SLOT_INBOUND6;
	__u16 port = ctx->local_port;
	struct pair dial = {};
	struct settings *s;
	struct bpf_sock *sk;
	long err;

	if (ctx->protocol != IPPROTO_TCP || !bpf_map_lookup_elem(&inbound_ports, &port))
		return SK_PASS;
	SET_IP(&dial.local, v4, ctx->remote_ip4, ctx->remote_ip6);
	SET_IP(&dial.remote, v4, ctx->local_ip4, ctx->local_ip6);
	dial.local.port = bpf_ntohs(ctx->remote_port);
	dial.remote.port = port;
	if (bpf_map_lookup_elem(&own_dials, &dial)) {
		count(COUNTER_OWN_DIALS);
		return SK_PASS;
	}
	sk = bpf_map_lookup_elem(&sidecar_sockets, &slot);
	if (!sk) {
		s = current_settings();
		if (s && s->open) {
			count(COUNTER_INBOUND_PASSED);
			return SK_PASS;
		}
		count(COUNTER_INBOUND_REFUSED);
		return SK_DROP; // the kernel answers with a reset
	}
	err = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	count(err ? COUNTER_INBOUND_REFUSED : COUNTER_STEERED);
	return err ? SK_DROP : SK_PASS;
}
