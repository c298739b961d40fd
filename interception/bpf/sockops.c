// The moment a captured connection has its source port: what it asked for is
// published under its own address, for the sidecar that is about to accept it.
#include "maps.h"

SEC("sockops")
int isthmus_sockops(struct bpf_sock_ops *ctx)
{
	struct endpoint own = {}, remote = {}, *asked;
	struct settings *s;
	struct bpf_sock *sk;

	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	asked = bpf_sk_storage_get(&asked_by_socket, sk, 0, 0);
	if (!asked)
		return 1;
	bool v4 = ctx->family == AF_INET;
	SET_IP(&own, v4, ctx->local_ip4, ctx->local_ip6);
	SET_IP(&remote, v4, ctx->remote_ip4, ctx->remote_ip6);
	own.port = ctx->local_port;
	remote.port = bpf_ntohl(ctx->remote_port);
	// A socket may be connected again, to somewhere that is not captured.
	s = current_settings();
	if (!s || !is_sidecar(s, &remote))
		return 1;
	bpf_map_update_elem(&asked_by_peer, &own, asked, BPF_ANY);
	return 1;
}
