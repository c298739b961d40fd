//go:build ignore

// A new connection to one of the program's ports: the sidecar gets it, except
// those that the sidecar makes itself. In a pod: to any port, except what comes from the
// pod, or from its node where that is to pass, and to ports of the sidecar.
#include "maps.h"

// passes_in_pod says so. Nobody else can have an address of the pod, or of loopback, as
// its source: the kernel drops such packets before.
static __always_inline bool passes_in_pod(const struct settings *s, const struct pair *dial)
{
	struct caller who = {
		.ip = { dial->local.ip[0], dial->local.ip[1], dial->local.ip[2], dial->local.ip[3] },
	};
	struct endpoint here = dial->local;
	__u16 port = dial->remote.port;

	here.port = port;
	if (same(&here, &dial->remote))
		return true;
	if (is_mapped(&here) && (bpf_ntohl(here.ip[3]) >> 24) == 127)
		return true;
	if (!here.ip[0] && !here.ip[1] && !here.ip[2] && here.ip[3] == bpf_htonl(1))
		return true;
	return bpf_map_lookup_elem(&excluded_ports, &port) || (s->node && bpf_map_lookup_elem(&node_addresses, &who));
}

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

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	s = current_settings();
	if (!s || (!s->pod && !bpf_map_lookup_elem(&inbound_ports, &port)))
		return SK_PASS;
	SET_IP(&dial.local, v4, ctx->remote_ip4, ctx->remote_ip6);
	SET_IP(&dial.remote, v4, ctx->local_ip4, ctx->local_ip6);
	dial.local.port = bpf_ntohs(ctx->remote_port);
	dial.remote.port = port;
	if (s->pod ? passes_in_pod(s, &dial) : !!bpf_map_lookup_elem(&own_dials, &dial)) {
		count(COUNTER_OWN_DIALS);
		return SK_PASS;
	}
	sk = bpf_map_lookup_elem(&sidecar_sockets, &slot);
	if (!sk) {
		if (s->open) {
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
