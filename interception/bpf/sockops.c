// The moments of a program's connection at which its addresses are known.
#include "maps.h"

// connecting has its source port and sends its first packet next.
static __always_inline void connecting(struct bpf_sock_ops *ctx, struct bpf_sock *sk, const struct endpoint *own, const struct endpoint *remote)
{
	struct peer *peer = bpf_sk_storage_get(&peer_by_socket, sk, 0, 0);
	__u16 port = remote->port;
	__u8 one = 1;

	// A captured connection: what it asked for is published under its own address,
	// for the sidecar that is about to accept it. (A socket may be connected again,
	// to somewhere that is not captured.)
	if (peer && same(&peer->actual, remote)) {
		bpf_map_update_elem(&asked_by_peer, own, &peer->shown, BPF_ANY);
		return;
	}
	// The program calls itself, most likely: no sidecar is in between.
	if (bpf_map_lookup_elem(&inbound_ports, &port) &&
	    !bpf_map_update_elem(&own_dials, own, &one, BPF_ANY))
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

// accepted comes from the sidecar when somebody's address is known for it: that is
// whom the program sees.
static __always_inline void accepted(struct bpf_sock *sk, const struct endpoint *remote)
{
	struct endpoint *caller = bpf_map_lookup_elem(&callers, remote);
	struct peer *peer;

	if (!caller)
		return;
	peer = bpf_sk_storage_get(&peer_by_socket, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (peer) {
		peer->actual = *remote;
		peer->shown = *caller;
	}
	bpf_map_delete_elem(&callers, remote);
}

SEC("sockops")
int isthmus_sockops(struct bpf_sock_ops *ctx)
{
	struct endpoint own = {}, remote = {};
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return 1;
	bool v4 = ctx->family == AF_INET;
	SET_IP(&own, v4, ctx->local_ip4, ctx->local_ip6);
	SET_IP(&remote, v4, ctx->remote_ip4, ctx->remote_ip6);
	own.port = ctx->local_port;
	remote.port = bpf_ntohl(ctx->remote_port);
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		connecting(ctx, sk, &own, &remote);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		accepted(sk, &remote);
		break;
	case BPF_SOCK_OPS_STATE_CB: // of a connection to itself: it stands, or failed
		bpf_map_delete_elem(&own_dials, &own);
		break;
	}
	return 1;
}
