// The decision that connect and sendmsg share.
#ifndef ISTHMUS_CAPTURE_H
#define ISTHMUS_CAPTURE_H

#include "maps.h"

#define ALLOW 1
#define DENY 0

// How many ports are tried for a socket: each is in use by chance only.
#define BIND_TRIES 8

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

// told takes what a pod's sidecar says of an address and a port: by a datagram to it, which
// goes nowhere. From the sidecar's outbound port it says that TCP connections there are to come
// to it, from its inbound port that they are not. That it is refused is the acknowledgement.
static __always_inline int told(const struct settings *s, struct bpf_sock *sk, const struct endpoint *to)
{
	__u8 yes = 1;

	if (sk->src_port == s->inbound_port) {
		bpf_map_delete_elem(&also_captured, to);
		return refuse();
	}
	if (!bpf_map_update_elem(&also_captured, to, &yes, BPF_ANY))
		return refuse();
	if (errno_settable)
		bpf_set_retval(-ENOBUFS);
	return DENY;
}

// bind_port gives a UDP socket that connects its port now: the kernel would do so after
// this hook, and without a port nothing tells the sidecar whose question it gets. It
// returns 0 if all the ports that it tries are in use.
static __always_inline __u16 bind_port(struct bpf_sock_addr *ctx, bool v4, const struct settings *s)
{
	struct sockaddr_in any4 = { .sin_family = AF_INET };
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6 };
	__u16 port;

	if (!s->ports)
		return 0;
	for (int n = 0; n < BIND_TRIES; n++) {
		port = s->first_port + bpf_get_prandom_u32() % s->ports;
		any4.sin_port = any6.sin6_port = bpf_htons(port);
		if (v4 ? !bpf_bind(ctx, (struct sockaddr *)&any4, sizeof(any4))
		       : !bpf_bind(ctx, (struct sockaddr *)&any6, sizeof(any6)))
			return port;
	}
	return 0;
}

// publish_server tells the sidecar which DNS server a datagram is for, under the address
// that the datagram will come from.
static __always_inline void publish_server(struct bpf_sock_addr *ctx, struct bpf_sock *sk, const struct settings *s,
					   const struct endpoint *server, bool connects)
{
	bool v4 = sk->family == AF_INET;
	struct endpoint from = {};

	from.port = sk->src_port;
	if (!from.port && connects)
		from.port = bind_port(ctx, v4, s);
	if (!from.port)
		return;
	SET_IP(&from, v4, sk->src_ip4, sk->src_ip6);
	if (!from.ip[0] && !from.ip[1] && !from.ip[3]) // bound to no address
		set_loopback(&from, is_mapped(server));
	bpf_map_update_elem(&dns_server_by_peer, &from, server, BPF_ANY);
}

// capture decides what becomes of traffic to an address. It returns ALLOW or
// what refuse returns; when it sets *port, the caller rewrites the destination
// to that port of the loopback address. connects is a constant: whether the hook is
// that of connect(2).
static __always_inline int capture(struct bpf_sock_addr *ctx, const struct endpoint *to, __u16 *port, bool connects)
{
	struct settings *s = current_settings();
	struct bpf_sock *sk = READ(ctx->sk);
	__u32 slot = is_mapped(to) ? SLOT_OUTBOUND4 : SLOT_OUTBOUND6;
	bool tcp = ctx->protocol == IPPROTO_TCP || ctx->protocol == IPPROTO_MPTCP;
	bool udp = ctx->protocol == IPPROTO_UDP;
	struct peer *peer;

	if (!s || (!tcp && !udp))
		return ALLOW;
	if (udp && !connects && is_sidecar(s) && (sk->src_port == s->outbound_port || sk->src_port == s->inbound_port))
		return told(s, sk, to);
	bool dns = s->dns_port && to->port == DNS_PORT;
	if (!dns && !is_captured(to) && !(tcp && bpf_map_lookup_elem(&also_captured, to)))
		return ALLOW;
	// A pod's sidecar dials itself once, to find out whether it is captured.
	if (is_sidecar(s) && (dns || to->port != s->outbound_port))
		return ALLOW;
	if (dns)
		slot += SLOT_DNS4 - SLOT_OUTBOUND4;
	if (udp && !dns) {
		count(COUNTER_UDP_REFUSED);
		return refuse();
	}
	// The loopback address of another network namespace is not where the
	// sidecar listens, and from another device than loopback no packet gets there.
	bool elsewhere = s->netns && bpf_get_netns_cookie(ctx) != s->netns;
	bool bound = sk->bound_dev_if && sk->bound_dev_if != LOOPBACK_IFINDEX;
	if (elsewhere)
		count(COUNTER_NAMESPACE);
	if (bound)
		count(COUNTER_DEVICE);
	if (elsewhere || bound || !socket_open(slot)) {
		if (s->open) {
			count(COUNTER_PASSED);
			return ALLOW;
		}
		count(COUNTER_REFUSED);
		return refuse();
	}
	peer = bpf_sk_storage_get(&peer_by_socket, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!peer) { // no memory: as if the sidecar had refused, never directly
		count(COUNTER_REFUSED);
		return refuse();
	}
	*port = dns ? s->dns_port : s->outbound_port;
	peer->shown = *to;
	set_loopback(&peer->actual, is_mapped(to));
	peer->actual.port = *port;
	if (udp && !s->pod)
		publish_server(ctx, sk, s, to, connects);
	count(dns ? COUNTER_DNS : COUNTER_CAPTURED);
	return ALLOW;
}

// capture4 and capture6 read the destination from the context and write the
// new one there.
static __always_inline int capture4(struct bpf_sock_addr *ctx, bool connects)
{
	struct endpoint to = {};
	__u16 port = 0;

	set_ip4(&to, ctx->user_ip4);
	to.port = bpf_ntohs((__u16)ctx->user_port);
	int verdict = capture(ctx, &to, &port, connects);
	if (port) {
		ctx->user_ip4 = bpf_htonl(0x7f000001);
		ctx->user_port = bpf_htons(port);
	}
	return verdict;
}

static __always_inline int capture6(struct bpf_sock_addr *ctx, bool connects)
{
	struct endpoint to = {};
	__u16 port = 0;

	to.ip[0] = ctx->user_ip6[0];
	to.ip[1] = ctx->user_ip6[1];
	to.ip[2] = ctx->user_ip6[2];
	to.ip[3] = ctx->user_ip6[3];
	to.port = bpf_ntohs((__u16)ctx->user_port);
	int verdict = capture(ctx, &to, &port, connects);
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
