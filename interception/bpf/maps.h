// What the hooks share: the layout of every map and the counters. The Go side
// gets the same types from bpf2go, so nothing is written down twice.
#ifndef ISTHMUS_MAPS_H
#define ISTHMUS_MAPS_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#define ENOBUFS 105
#define ECONNREFUSED 111
#define DNS_PORT 53
#define LOOPBACK_IFINDEX 1

// Bytes that one end may have redirected since the other end last sent something.
// Nothing else bounds them: TCP's window does not count a redirected message.
#define TURN_LIMIT (256 * 1024)

// Values of own_dials.
#define DIAL_SIDECAR 1
#define DIAL_PROGRAM 2

// An address and port. IPv4 is held as IPv4-mapped IPv6 (::ffff:a.b.c.d), so
// that there is one of every map and a dual-stack socket needs no second case.
struct endpoint {
	__u32 ip[4];  // network byte order
	__u16 port;   // host byte order
	__u16 unused; // zero: keys are compared whole
};

// Written by Attach, read by every hook.
struct settings {
	__u64 netns;         // cookie of the sidecar's network namespace; 0: any
	__u64 cgroup;        // id of the captured cgroup
	__u32 layout;        // version of these structs
	__u16 outbound_port; // of the sidecar on 127.0.0.1 and ::1, host byte order
	__u16 dns_port;      // 0: DNS is left alone
	__u16 first_port;    // of the ports that the host gives to outgoing connections
	__u16 ports;         // how many they are
	__u8 open;           // onFailure: 1 open, 0 closed
	__u8 pod;            // the sidecar is in the cgroup, too, and what follows counts
	__u16 inbound_port;  // of the sidecar, for callers of the pod's ports
	__u32 sidecar_uid;   // as the host sees it
	__u8 node;           // what comes from the node's addresses passes
	__u8 unused[3];
};

// A caller's address, in network byte order as in endpoint.
struct caller {
	__u32 ip[4];
};

// What a program's socket is connected to, and what the program is shown instead.
struct peer {
	struct endpoint actual;
	struct endpoint shown;
};

// A connection as one of its ends sees it.
struct pair {
	struct endpoint local;
	struct endpoint remote;
};

// What one end of an accelerated connection has sent. Only its own sends change it,
// but that turn begins anew when the other end says something.
struct flow {
	__u64 born;  // of the program's end: addresses are used again
	__u64 sent;  // bytes, by whatever way
	__u64 turn;  // bytes redirected since the other end last sent something
	__u8 by_tcp; // there may be unread bytes in TCP's queue, which must be read first
	__u8 unused[7];
};

// How much the sidecar has read of what the program sent by TCP.
struct caught {
	__u64 born; // the program's flow
	__u64 read; // bytes
};

// Key of the LPM map; an IPv4 prefix is 96 bits longer than it is written.
struct prefix {
	__u32 bits;
	__u32 ip[4];
};

// Slots of sidecar_sockets.
enum slot {
	SLOT_OUTBOUND4,
	SLOT_OUTBOUND6,
	SLOT_DNS4,
	SLOT_DNS6,
	SLOT_INBOUND4,
	SLOT_INBOUND6,
	SLOTS,
};

enum counter {
	COUNTER_CAPTURED,         // connections sent to the sidecar
	COUNTER_DNS,              // DNS connections and datagrams sent to the sidecar
	COUNTER_REFUSED,          // refused: no sidecar, onFailure closed
	COUNTER_PASSED,           // let by: no sidecar, onFailure open
	COUNTER_UDP_REFUSED,      // UDP to a captured address, which the mesh does not carry
	COUNTER_NAMESPACE,        // of refused and passed: from another network namespace
	COUNTER_DEVICE,           // of refused and passed: by a socket that is bound to a device
	COUNTER_STEERED,          // inbound connections steered to the sidecar
	COUNTER_OWN_DIALS,        // inbound connections of the sidecar or the program itself
	COUNTER_INBOUND_REFUSED,  // inbound refused: no sidecar, onFailure closed
	COUNTER_INBOUND_PASSED,   // inbound let by: no sidecar, onFailure open
	COUNTER_ACCELERATED,      // connections whose messages may be redirected
	COUNTER_REDIRECTED,       // messages on them that were
	COUNTER_BY_TCP,           // messages on them that TCP carried
	COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} current SEC(".maps");

// Addresses whose connections go to the sidecar.
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} captured SEC(".maps");

// Addresses and ports whose TCP connections go to a pod's sidecar, too, because it has said so:
// see told in capture.h.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192); // four times what a sidecar says: one that crashed takes nothing back
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct endpoint);
	__type(value, __u8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} also_captured SEC(".maps");

// The sidecar's listening sockets. The kernel empties a slot when the socket
// closes, also when its process is killed: this map is how the hooks know
// whether a sidecar is there, without a heartbeat.
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, SLOTS);
	__type(key, enum slot);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} sidecar_sockets SEC(".maps");

// Of a socket that was sent to the sidecar, what the program asked for; of one
// that the sidecar made to the program, who called. Lives and dies with the socket.
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct peer);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} peer_by_socket SEC(".maps");

// What the program asked for by its socket's own address, for the sidecar, which
// sees that as the peer of the connection it accepts and takes the entry out.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384); // 2 MB; what waits to be accepted is bounded by the listen queue
	__type(key, struct endpoint);
	__type(value, struct endpoint);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} asked_by_peer SEC(".maps");

// The DNS server that a socket of the program asked last by UDP, by the address that the
// sidecar sees as the question's sender. It stays, for the next question of the socket.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384); // 2 MB
	__type(key, struct endpoint);
	__type(value, struct endpoint);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} dns_server_by_peer SEC(".maps");

// The program's ports (host byte order) whose connections go to the sidecar; of a pod, whose
// sidecar has all of them, none is here.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u16);
	__type(value, __u8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} inbound_ports SEC(".maps");

// The ports of a pod (host byte order) whose connections do not go to the sidecar.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u16);
	__type(value, __u8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} excluded_ports SEC(".maps");

// Connections that pass to the program's ports, as who makes them sees them, while
// they are being made: the sidecar's, and the program's own to itself.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct pair);
	__type(value, __u8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} own_dials SEC(".maps");

// Whom the sidecar calls for, by its connection to the program as it sees that. The
// program's socket takes the entry out when the connection stands.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384); // 2 MB; an entry lives for a handshake on loopback
	__type(key, struct pair);
	__type(value, struct endpoint);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} callers SEC(".maps");

// The addresses of the node: what comes from there passes to the ports of a pod, where its kubelet
// asks the programs and not the sidecar.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct caller);
	__type(value, __u8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} node_addresses SEC(".maps");

// The sockets of a pod's sidecar, by who made them.
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u8);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} made_by_sidecar SEC(".maps");

// Whether connections may be accelerated: the sidecar says so once it has tried.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} acceleration SEC(".maps");

// Both ends of accelerated connections, each under its own view. What one of them
// sends goes by isthmus_sk_msg.
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 32768);
	__type(key, struct pair);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} accelerated_sockets SEC(".maps");

// An end that is in accelerated_sockets has a flow: the program's is made by
// sockops, the sidecar's by the sidecar. Both go when the program's socket closes.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct pair);
	__type(value, struct flow);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} flows SEC(".maps");

// By the program's view of the connection; the sidecar says it once.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct pair);
	__type(value, struct caught);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} caught_up SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, enum counter);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} counters SEC(".maps");

// bpf_set_retval exists since Linux 5.18. A constant, so that the verifier of an
// older kernel never looks at the call.
volatile const bool errno_settable = false;

static __always_inline void count(enum counter which)
{
	__u32 key = which;
	__u64 *n = bpf_map_lookup_elem(&counters, &key);
	if (n)
		*n += 1;
}

static __always_inline struct settings *current_settings(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&current, &zero);
}

// is_sidecar reports whether the process that makes this system call is a pod's sidecar.
static __always_inline bool is_sidecar(const struct settings *s)
{
	return s->pod && (__u32)bpf_get_current_uid_gid() == s->sidecar_uid;
}

// socket_open reports whether the sidecar has a socket in the slot.
static __always_inline bool socket_open(__u32 slot)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&sidecar_sockets, &slot);
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

// READ reads a field of a hook's context at this very place. The verifier refuses
// the pointer arithmetic that the compiler makes of two branches which read
// different fields.
#define READ(field) (*(volatile __typeof__(field) *)&(field))

// WRITE writes a field of a hook's context by itself: two that the compiler joins are
// refused.
#define WRITE(field, value) (*(volatile __typeof__(field) *)&(field) = (value))

// SET_IP fills in the address of either family, without a branch around a read.
#define SET_IP(endpoint, v4, field4, field6) \
	do { \
		__u32 ip4 = READ(field4), a = READ(field6[0]), b = READ(field6[1]); \
		__u32 c = READ(field6[2]), d = READ(field6[3]); \
		(endpoint)->ip[0] = (v4) ? 0 : a; \
		(endpoint)->ip[1] = (v4) ? 0 : b; \
		(endpoint)->ip[2] = (v4) ? bpf_htonl(0xffff) : c; \
		(endpoint)->ip[3] = (v4) ? ip4 : d; \
	} while (0)

static __always_inline void set_ip4(struct endpoint *e, __u32 ip)
{
	e->ip[0] = 0;
	e->ip[1] = 0;
	e->ip[2] = bpf_htonl(0xffff);
	e->ip[3] = ip;
}

// set_loopback makes e the address at which the sidecar listens, of either family.
static __always_inline void set_loopback(struct endpoint *e, bool v4)
{
	e->ip[0] = 0;
	e->ip[1] = 0;
	e->ip[2] = v4 ? bpf_htonl(0xffff) : 0;
	e->ip[3] = v4 ? bpf_htonl(0x7f000001) : bpf_htonl(1);
}

static __always_inline bool is_mapped(const struct endpoint *e)
{
	return e->ip[0] == 0 && e->ip[1] == 0 && e->ip[2] == bpf_htonl(0xffff);
}

static __always_inline bool same(const struct endpoint *a, const struct endpoint *b)
{
	return a->ip[0] == b->ip[0] && a->ip[1] == b->ip[1] && a->ip[2] == b->ip[2] &&
	       a->ip[3] == b->ip[3] && a->port == b->port;
}

#endif
