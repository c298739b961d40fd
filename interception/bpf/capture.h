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
	struct endpoint *asked;

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
	asked = bpf_sk_storage_get(&asked_by_socket, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!asked) { // no memory: as if the sidecar had refused, never directly
		count(COUNTER_REFUSED);
		return refuse();
	}
	*asked = *to;
	*port = dns ? s->dns_port : s->outbound_port;
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
		// IPv4-mapped stays IPv4-mapped: ::ffff:127.0.0.1.
		bool mapped = is_mapped(&to);
		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = mapped ? bpf_htonl(0xffff) : 0;
		ctx->user_ip6[3] = mapped ? bpf_htonl(0x7f000001) : bpf_htonl(1);
		ctx->user_port = bpf_htons(port);
	}
	return verdict;
}

// restore4 and restore6 show the program the address that it asked for where
// the kernel would show the sidecar's: the peer's name, the sender of a datagram.
static __always_inline struct endpoint *asked_instead_of(struct bpf_sock_addr *ctx, const struct endpoint *seen)
{
	struct settings *s = current_settings();

	if (!s || !is_sidecar(s, seen))
		return 0;
	return bpf_sk_storage_get(&asked_by_socket, ctx->sk, 0, 0);
}

static __always_inline int restore4(struct bpf_sock_addr *ctx)
{
	struct endpoint seen = {}, *asked;

	set_ip4(&seen, ctx->user_ip4);
	seen.port = bpf_ntohs((__u16)ctx->user_port);
	asked = asked_instead_of(ctx, &seen);
	if (asked) {
		ctx->user_ip4 = asked->ip[3];
		ctx->user_port = bpf_htons(asked->port);
	}
	return ALLOW;
}

static __always_inline int restore6(struct bpf_sock_addr *ctx)
{
	struct endpoint seen = {}, *asked;

	seen.ip[0] = ctx->user_ip6[0];
	seen.ip[1] = ctx->user_ip6[1];
	seen.ip[2] = ctx->user_ip6[2];
	seen.ip[3] = ctx->user_ip6[3];
	seen.port = bpf_ntohs((__u16)ctx->user_port);
	asked = asked_instead_of(ctx, &seen);
	if (asked) {
		ctx->user_ip6[0] = asked->ip[0];
		ctx->user_ip6[1] = asked->ip[1];
		ctx->user_ip6[2] = asked->ip[2];
		ctx->user_ip6[3] = asked->ip[3];
		ctx->user_port = bpf_htons(asked->port);
	}
	return ALLOW;
}

#endif
