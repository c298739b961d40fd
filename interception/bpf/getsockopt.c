//go:build ignore

// getsockopt(2) with SO_ORIGINAL_DST on a connection that a pod's sidecar accepted, which
// has no other way to ask what the program wanted.
#include "maps.h"

#define SO_ORIGINAL_DST 80 // of IPPROTO_IP and of IPPROTO_IPV6

// The kernel hands over so many bytes of what a longer option says, and wants to hear that
// none of it has changed.
#define OPTION_BYTES 4096

// original fills in what the connection was made to, and answers once.
static __always_inline bool original(struct bpf_sockopt *ctx, struct endpoint *to)
{
	struct settings *s = current_settings();
	struct bpf_sock *sk = ctx->sk;
	struct endpoint from = {}, *asked;

	if (!s || !sk || !is_sidecar(s) || (sk->src_port != s->outbound_port && sk->src_port != s->dns_port))
		return false;
	bool v4 = sk->family == AF_INET;
	SET_IP(&from, v4, sk->dst_ip4, sk->dst_ip6);
	from.port = bpf_ntohs(sk->dst_port);
	asked = bpf_map_lookup_elem(&asked_by_peer, &from);
	if (!asked)
		return false;
	*to = *asked;
	bpf_map_delete_elem(&asked_by_peer, &from);
	return true;
}

SEC("cgroup/getsockopt")
int isthmus_getsockopt(struct bpf_sockopt *ctx)
{
	struct endpoint to = {};

	if (ctx->optname == SO_ORIGINAL_DST && ctx->level == IPPROTO_IP) {
		struct sockaddr_in *answer = ctx->optval;
		if ((void *)(answer + 1) <= ctx->optval_end && original(ctx, &to)) {
			answer->sin_family = AF_INET;
			answer->sin_port = bpf_htons(to.port);
			answer->sin_addr.s_addr = to.ip[3];
			WRITE(ctx->optlen, sizeof(*answer));
			WRITE(ctx->retval, 0);
		}
	} else if (ctx->optname == SO_ORIGINAL_DST && ctx->level == IPPROTO_IPV6) {
		struct sockaddr_in6 *answer = ctx->optval;
		if ((void *)(answer + 1) <= ctx->optval_end && original(ctx, &to)) {
			answer->sin6_family = AF_INET6;
			answer->sin6_port = bpf_htons(to.port);
			answer->sin6_flowinfo = 0;
			answer->sin6_addr.in6_u.u6_addr32[0] = to.ip[0];
			answer->sin6_addr.in6_u.u6_addr32[1] = to.ip[1];
			answer->sin6_addr.in6_u.u6_addr32[2] = to.ip[2];
			answer->sin6_addr.in6_u.u6_addr32[3] = to.ip[3];
			answer->sin6_scope_id = 0;
			WRITE(ctx->optlen, sizeof(*answer));
			WRITE(ctx->retval, 0);
		}
	} else if (ctx->optlen > OPTION_BYTES) {
		WRITE(ctx->optlen, 0);
	}
	return 1;
}
