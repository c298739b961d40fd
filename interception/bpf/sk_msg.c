//go:build ignore

// One end of an accelerated connection sends: the message is redirected into the other
// end's queue, or TCP carries it. A reader gets redirected bytes before those of TCP,
// so nothing is redirected while bytes that TCP carried may be unread.
#include "maps.h"

SEC("sk_msg")
int isthmus_sk_msg(struct sk_msg_md *msg)
{
	struct pair here = {}, there = {};
	struct flow *mine, *theirs;
	struct bpf_sock *sk = msg->sk;
	struct caught *caught;

	if (!sk)
		return SK_PASS;
	bool v4 = msg->family == AF_INET;
	SET_IP(&here.local, v4, msg->local_ip4, msg->local_ip6);
	SET_IP(&here.remote, v4, msg->remote_ip4, msg->remote_ip6);
	here.local.port = msg->local_port;
	here.remote.port = bpf_ntohl(msg->remote_port);
	there.local = here.remote;
	there.remote = here.local;
	mine = bpf_map_lookup_elem(&flows, &here);
	if (!mine)
		return SK_PASS;
	theirs = bpf_map_lookup_elem(&flows, &there);
	if (theirs)
		theirs->turn = 0;
	if (mine->by_tcp) {
		caught = bpf_map_lookup_elem(&caught_up, &here);
		if (caught && caught->born == mine->born && caught->read == mine->sent)
			mine->by_tcp = 0;
	}
	mine->sent += msg->size;
	// A connection that the other end has begun to close goes the usual way, with
	// the usual errors; and so does one whose other end is gone from the map.
	if (!theirs || mine->by_tcp || mine->turn + msg->size > TURN_LIMIT || sk->state != BPF_TCP_ESTABLISHED ||
	    bpf_msg_redirect_hash(msg, &accelerated_sockets, &there, BPF_F_INGRESS) != SK_PASS) {
		mine->by_tcp = 1;
		count(COUNTER_BY_TCP);
		return SK_PASS;
	}
	mine->turn += msg->size;
	count(COUNTER_REDIRECTED);
	return SK_PASS;
}
