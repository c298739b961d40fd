// The decision that connect and sendmsg share.
#ifndef ISTHMUS_CAPTURE_H
#define ISTHMUS_CAPTURE_H

#include "maps.h"

#define ALLOW 1
#define DENY 0

// refuse makes the system call fail with ECONNREFUSED, as it would if nobody
// listened; with EPERM before Linux 5.18.
static __always_inline int refuse(void)
{
	if (errno_settable)
		bpf_set_retval(-ECONNREFUSED);
	return DENY;
}

// is_captured reports whether the address is one of the mesh.
static __always_inline bool is_captured(const struct endpoint *to)
{
	struct prefix key = {
		.bits = 128,
		.ip = { to->ip[0], to->ip[1], to->ip[2], to->ip[3] },
	};
	return bpf_map_lookup_elem(&captured, &key) != 0;
}

// capture decides what becomes of traffic to an address. It returns ALLOW or
// what refuse returns; when it sets *port, the caller rewrites the destination
// to that port of the loopback address.
static __always_inline int capture(struct bpf_sock_addr *ctx, const struct endpoint *to, __u16 *port)
{
	struct settings *s = current_settings();
	__u32 slot = is_mapped(to) ? SLOT_OUTBOUND4 : SLOT_OUTBOUND6;
	bool tcp = ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_MPTCP;
	bool udp = ctx->protocol == IPPROTO_UDP;
	struct peer *peer;

	if (!s || (!tcp && !udp))
		return ALLOW;
	bool dns = s->dns_port && to->port == DNS_PORT;
	if (!dns && !is_captured(to))
		return ALLOW;
	if (dns)
		slot += SLOT_DNS4 - SLOT_OUTBOUND4;
	if (udp && !dns) {
		count(COUNTER_UDP_REFUSED);
		return refuse();
	}
	// The loopback address of another network namespace is not where the
	// sidecar listens.
	bool elsewhere = s->netns && bpf_get_netns_cookie(ctx) != s->netns;
	if (elsewhere)
		count(COUNTER_NAMESPACE);
	if (elsewhere || !socket_open(slot)) {
		if (s->open) {
			count(COUNTER_PASSED);
			return ALLOW;
		}
		count(COUNTER_REFUSED);
		return refuse();
	}
	peer = bpf_sk_storage_get(&peer_by_socket, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!peer) { // no memory: as if the sidecar had refused, never directly
		count(COUNTER_REFUSED);
		return refuse();
	}
	*port = dns ? s->dns_port : s->outbound_port;
	peer->shown = *to;
	set_loopback(&peer->actual, is_mapped(to));
	peer->actual.port = *port;
	count(dns ? COUNTER_DNS : COUNTER_CAPTURED);
	return ALLOW;
}

// capture4 and capture6 read the destination from the context and write the
// new one there.
static __always_inline int capture4(struct bpf_sock_addr *ctx)
{
	struct endpoint to = {};
	__u16 port = 0;

	set_ip4(&to, ctx->user_ip4);
	to.port = bpf_ntohs((__u16)ctx->user_port);
	int verdict = capture(ctx, &to, &port);
	if (port) {
		ctx->user_ip4 = bpf_htonl(0x7f000001);
		ctx->user_port = bpf_htons(port);
	}
	return verdict;
}

static __always_inline int capture6(struct bpf_sock_addr *ctx)
{
	struct endpoint to = {};
	__u16 port = 0;

	to.ip[0] = ctx->user_ip6[0];
	to.ip[1] = ctx->user_ip6[1];
	to.ip[2] = ctx->user_ip6[2];
	to.ip[3] = ctx->user_ip6[3];
	to.port = bpf_ntohs((__u16)ctx->user_port);
	int verdict = capture(ctx, &to, &port);
	if (port) {
		struct endpoint sidecar = {};
		set_loopback(&sidecar, is_mapped(&to)); // IPv4-mapped stays IPv4-mapped
		ctx->user_ip6[0] = sidecar.ip[0];
		ctx->user_ip6[1] = sidecar.ip[1];
		ctx->user_ip6[2] = sidecar.ip[2];
		ctx->user_ip6[3] = sidecar.ip[3];
		ctx->user_port = bpf_htons(port);
	}
	return verdict;
}

// restore4 and restore6 show the program the address that it asked for, or who
// called, where the kernel would show the sidecar's: the peer's name, also as
// accept(2) gives it, and the sender of a datagram.
static __always_inline struct endpoint *shown_instead_of(struct bpf_sock_addr *ctx, const struct endpoint *seen)
{
	struct peer *peer = bpf_sk_storage_get(&peer_by_socket, ctx->sk, 0, 0);

	// A socket may be connected again, to somewhere that is not captured.
	if (!peer || !same(&peer->actual, seen))
		return 0;
	return &peer->shown;
}

static __always_inline int restore4(struct bpf_sock_addr *ctx)
{
	struct endpoint seen = {}, *shown;

	set_ip4(&seen, ctx->user_ip4);
	seen.port = bpf_ntohs((__u16)ctx->user_port);
	shown = shown_instead_of(ctx, &seen);
	if (shown && is_mapped(shown)) { // an IPv6 caller has no name that fits here
		ctx->user_ip4 = shown->ip[3];
		ctx->user_port = bpf_htons(shown->port);
	}
	return ALLOW;
}

static __always_inline int restore6(struct bpf_sock_addr *ctx)
{
	struct endpoint seen = {}, *shown;

	seen.ip[0] = ctx->user_ip6[0];
	seen.ip[1] = ctx->user_ip6[1];
	seen.ip[2] = ctx->user_ip6[2];
	seen.ip[3] = ctx->user_ip6[3];
	seen.port = bpf_ntohs((__u16)ctx->user_port);
	shown = shown_instead_of(ctx, &seen);
	if (shown) {
		ctx->user_ip6[0] = shown->ip[0];
		ctx->user_ip6[1] = shown->ip[1];
		ctx->user_ip6[2] = shown->ip[2];
		ctx->user_ip6[3] = shown->ip[3];
		ctx->user_port = bpf_htons(shown->port);
	}
	return ALLOW;
}

#endif
