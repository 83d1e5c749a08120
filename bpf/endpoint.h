/* SPDX-License-Identifier: GPL-2.0 */
/* What is remembered with a socket, and how an endpoint's record is filled. */
#pragma once

#include "task.h"

/* Kept in the socket itself: it lives and dies with it. A connection inherits its listener's. */
struct owner {
	struct actor actor;
	u64 since;
	u32 netns;
	u8 direction;
	u8 announced;
	u8 established;
	u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct owner);
} owners SEC(".maps");

static __always_inline u32 netns_of(const struct sock *sk)
{
	return READ(sk, __sk_common.skc_net.net, ns.inum);
}

static __always_inline void set_owner(struct owner *owner, u8 direction)
{
	struct task_struct *task = bpf_get_current_task_btf();

	fill_actor(&owner->actor, task);
	owner->since = bpf_ktime_get_boot_ns();
	owner->direction = direction;
	owner->announced = 0;
	owner->established = 0;
}

/* Addresses and ports as the socket has them. */
static __always_inline void fill_addresses(struct endpoint_record *r, const struct sock *sk)
{
	const struct sock_common *c = &sk->__sk_common;
	const struct inet_sock *inet = (const struct inet_sock *)sk;

	if (READ(c, skc_family) == AF_INET) {
		r->family = 4;
		*(u32 *)r->local = READ(c, skc_rcv_saddr);
		*(u32 *)r->remote = READ(c, skc_daddr);
	} else {
		r->family = 6;
		bpf_core_read(r->local, 16, &c->skc_v6_rcv_saddr);
		bpf_core_read(r->remote, 16, &c->skc_v6_daddr);
	}
	r->local_port = bpf_ntohs(READ(inet, inet_sport));
	r->remote_port = bpf_ntohs(READ(c, skc_dport));
	r->netns = netns_of(sk);
}

static __always_inline void fill_traffic(struct endpoint_record *r, const struct sock *sk)
{
	const struct tcp_sock *tcp = (const struct tcp_sock *)sk;

	r->bytes_sent = READ(tcp, bytes_sent) - READ(tcp, bytes_retrans);
	r->bytes_received = READ(tcp, bytes_received);
	/* A FIN that came in counts as a byte there. */
	if (r->bytes_received && READ(sk, __sk_common.skc_flags) & (1UL << SOCK_DONE_BIT))
		r->bytes_received--;
	r->packets_sent = READ(tcp, segs_out);
	r->packets_received = READ(tcp, segs_in);
}

static __always_inline void fill_owner(struct endpoint_record *r, const struct owner *owner)
{
	r->actor = owner->actor;
	r->since = owner->since;
	r->direction = owner->direction;
	r->netns = owner->netns;
}
