//go:build ignore

// The moments of a program's connection at which its addresses are known.
#include "maps.h"

// ends fills in the addresses of the connection, as this socket sees them.
static __always_inline void ends(struct bpf_sock_ops *ctx, struct pair *here)
{
	bool v4 = ctx->family == AF_INET;

	SET_IP(&here->local, v4, ctx->local_ip4, ctx->local_ip6);
	SET_IP(&here->remote, v4, ctx->remote_ip4, ctx->remote_ip6);
	here->local.port = ctx->local_port;
	here->remote.port = bpf_ntohl(ctx->remote_port);
}

// watch has the end of the connection told.
static __always_inline void watch(struct bpf_sock_ops *ctx)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

// connecting has its source port and sends its first packet next.
static __always_inline void connecting(struct bpf_sock_ops *ctx, const struct peer *peer)
{
	__u16 port = bpf_ntohl(ctx->remote_port);
	__u8 whose = DIAL_PROGRAM;
	struct pair here = {};

	if (!peer && !bpf_map_lookup_elem(&inbound_ports, &port))
		return;
	ends(ctx, &here);
	// A captured connection: what it asked for is published under its own address,
	// for the sidecar that is about to accept it. (A socket may be connected again,
	// to somewhere that is not captured.)
	if (peer && same(&peer->actual, &here.remote)) {
		bpf_map_update_elem(&asked_by_peer, &here.local, &peer->shown, BPF_ANY);
		return;
	}
	// The program calls itself, most likely: no sidecar is in between.
	struct settings *s = current_settings();
	if (s && !s->pod && bpf_map_lookup_elem(&inbound_ports, &port) &&
	    !bpf_map_update_elem(&own_dials, &here, &whose, BPF_ANY))
		watch(ctx);
}

// accepted comes from the sidecar when somebody's address is known for it: that is
// whom the program sees.
static __always_inline void accepted(struct bpf_sock *sk, const struct pair *there)
{
	struct endpoint *caller = bpf_map_lookup_elem(&callers, there);
	struct peer *peer;

	if (!caller)
		return;
	peer = bpf_sk_storage_get(&peer_by_socket, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (peer) {
		peer->actual = there->local;
		peer->shown = *caller;
	}
	bpf_map_delete_elem(&callers, there);
}

// accelerate puts the program's end of a connection with the sidecar into the map of
// sockets, so that sk_msg sees what it sends. Nothing is redirected until the sidecar
// has put its own end there. The end that connects may be in the middle of a send that
// began earlier and that no hook counts: it starts with by_tcp, until the sidecar has
// read everything that was sent.
static __always_inline void accelerate(struct bpf_sock_ops *ctx, struct pair *here, bool connects)
{
	struct flow flow = { .born = bpf_ktime_get_ns(), .by_tcp = connects };
	__u32 zero = 0, *on = bpf_map_lookup_elem(&acceleration, &zero);

	if (!on || !*on || ctx->data_segs_out) // data in its SYN (TCP Fast Open)
		return;
	if (bpf_map_update_elem(&flows, here, &flow, BPF_ANY))
		return;
	watch(ctx);
	if (bpf_sock_hash_update(ctx, &accelerated_sockets, here, BPF_ANY)) {
		bpf_map_delete_elem(&flows, here);
		return;
	}
	count(COUNTER_ACCELERATED);
}

// listening is told of every socket that begins to listen: a pod's sidecar cannot say by
// itself which are its own.
static __always_inline void listening(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct settings *s = current_settings();
	__u16 port = ctx->local_port;
	__u32 slot4, slot6;

	if (!s || !s->pod || !bpf_sk_storage_get(&made_by_sidecar, sk, 0, 0))
		return;
	if (port == s->outbound_port) {
		slot4 = SLOT_OUTBOUND4;
		slot6 = SLOT_OUTBOUND6;
	} else if (port == s->dns_port) {
		slot4 = SLOT_DNS4;
		slot6 = SLOT_DNS6;
	} else if (port == s->inbound_port) {
		slot4 = SLOT_INBOUND4;
		slot6 = SLOT_INBOUND6;
	} else {
		return;
	}
	if (ctx->family == AF_INET6)
		bpf_sock_map_update(ctx, &sidecar_sockets, &slot6, BPF_ANY);
	// One of IPv6 at every address takes IPv4, too.
	if (ctx->family == AF_INET || (!READ(ctx->local_ip6[0]) && !READ(ctx->local_ip6[1]) && !READ(ctx->local_ip6[2]) && !READ(ctx->local_ip6[3])))
		bpf_sock_map_update(ctx, &sidecar_sockets, &slot4, BPF_ANY);
}

// changed is told of every new state of a watched connection.
static __always_inline void changed(struct bpf_sock_ops *ctx, const struct pair *here)
{
	struct pair there = { .local = here->remote, .remote = here->local };

	bpf_map_delete_elem(&own_dials, here); // to itself: it stands, or failed
	if (ctx->args[1] != BPF_TCP_CLOSE)
		return;
	bpf_map_delete_elem(&flows, here);
	bpf_map_delete_elem(&flows, &there);
	bpf_map_delete_elem(&caught_up, here);
}

// Called many times in a connection's life: nothing is done before the moment is
// known to matter.
SEC("sockops")
int isthmus_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct pair here = {}, there = {};
	struct peer *peer;
	__u8 *whose;

	if (!sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		connecting(ctx, bpf_sk_storage_get(&peer_by_socket, sk, 0, 0));
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		peer = bpf_sk_storage_get(&peer_by_socket, sk, 0, 0);
		if (!peer)
			break;
		ends(ctx, &here);
		if (same(&peer->actual, &here.remote))
			accelerate(ctx, &here, true);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		ends(ctx, &here);
		there.local = here.remote;
		there.remote = here.local;
		whose = bpf_map_lookup_elem(&own_dials, &there);
		if (whose && *whose == DIAL_SIDECAR)
			accelerate(ctx, &here, false);
		accepted(sk, &there);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		listening(ctx, sk);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		ends(ctx, &here);
		changed(ctx, &here);
		break;
	}
	return 1;
}
