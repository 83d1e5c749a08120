/* SPDX-License-Identifier: GPL-2.0 */
/*
 * UDP exchanges and DNS messages, and the moment at which a TCP connection has its port.
 *
 * Hooks: programs on the root of the version 2 control group hierarchy (skb since Linux 4.10, socket release since 5.9): they see the packets and
 * sockets of every network namespace, at the socket, so that the owner is known. They never hold a packet back. Not seen: what a program sends
 * or receives past the socket layer (raw and packet sockets, XDP).
 */
#pragma once

#include "endpoint.h"
#include <bpf/bpf_endian.h>

#define PASS 1
#define DNS_PORT 53

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct peer_key);
	__type(value, struct peer);
} peers SEC(".maps");

struct ipv4 {
	u8 version_length;
	u8 tos;
	u16 length;
	u16 id;
	u16 fragment;
	u8 ttl;
	u8 protocol;
	u16 check;
	u8 source[4];
	u8 dest[4];
};

struct ipv6 {
	u32 flow;
	u16 length;
	u8 next;
	u8 hops;
	u8 source[16];
	u8 dest[16];
};

struct ports {
	u16 source;
	u16 dest;
};

/* What matters of a packet's headers, seen from this host. */
struct packet {
	u8 family;
	u8 protocol;
	u16 local_port;
	u16 remote_port;
	u8 local[16];
	u8 remote[16];
	u32 transport;		/* offset of the transport's header */
};

static __always_inline bool dissect(struct __sk_buff *skb, bool out, struct packet *p)
{
	struct ports ports;
	u8 first;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return false;
	if (first >> 4 == 4) {
		struct ipv4 ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return false;
		p->family = 4;
		p->protocol = ip.protocol;
		p->transport = (first & 15) * 4;
		__builtin_memcpy(p->local, out ? ip.source : ip.dest, 4);
		__builtin_memcpy(p->remote, out ? ip.dest : ip.source, 4);
	} else {
		struct ipv6 ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return false;
		p->family = 6;
		p->protocol = ip.next;
		p->transport = sizeof(ip);
		__builtin_memcpy(p->local, out ? ip.source : ip.dest, 16);
		__builtin_memcpy(p->remote, out ? ip.dest : ip.source, 16);
		/* Hop-by-hop, routing and destination options have a length of their own. */
		for (int i = 0; i < 4; i++) {
			u8 option[2];

			if (p->protocol != 0 && p->protocol != 43 && p->protocol != 60)
				break;
			if (bpf_skb_load_bytes(skb, p->transport, option, 2))
				return false;
			p->protocol = option[0];
			p->transport += (option[1] + 1) * 8;
		}
	}
	if (bpf_skb_load_bytes(skb, p->transport, &ports, sizeof(ports)))
		return false;
	p->local_port = bpf_ntohs(out ? ports.source : ports.dest);
	p->remote_port = bpf_ntohs(out ? ports.dest : ports.source);
	return true;
}

static __always_inline void give_dns(struct __sk_buff *skb, struct packet *p, struct owner *owner, bool out)
{
	u32 offset = p->transport + 8, sequence = 0, length;
	struct dns_record *r;

	if (p->protocol == IPPROTO_TCP) {
		u8 words = 0;

		if (bpf_skb_load_bytes(skb, p->transport + 4, &sequence, 4) ||
		    bpf_skb_load_bytes(skb, p->transport + 12, &words, 1))
			return;
		sequence = bpf_ntohl(sequence);
		offset = p->transport + (words >> 4) * 4;
	}
	if (skb->len <= offset)
		return;
	length = skb->len - offset;

#define GIVE(room)                                                                                                     \
	do {                                                                                                           \
		u32 len = (length < (room) ? length : (room)) - 1;                                                     \
                                                                                                                       \
		/* 1 to room, in words that neither compiler nor verifier can lose */                                  \
		asm volatile("%0 &= %1" : "+r"(len) : "i"((room) - 1));                                                \
		len++;                                                                                                 \
		r = bpf_ringbuf_reserve(&bulk, sizeof(*r) + (room), 0);                                                \
		if (!r) {                                                                                              \
			lose(CLASS_NAMES);                                                                             \
			return;                                                                                        \
		}                                                                                                      \
		if (bpf_skb_load_bytes(skb, offset, r->data, len)) {                                                   \
			bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);                                                      \
			lose(CLASS_NAMES);                                                                             \
			return;                                                                                        \
		}                                                                                                      \
		r->len = len;                                                                                          \
	} while (0)

	if (length <= 512)
		GIVE(512);
	else if (length <= 4096)
		GIVE(4096);
	else
		GIVE(65536);
	r->h = header(KIND_DNS);
	__builtin_memset(&r->actor, 0, sizeof(r->actor));
	r->netns = 0;
	if (owner) {
		r->actor = owner->actor;
		r->netns = owner->netns;
	}
	r->socket = bpf_get_socket_cookie(skb);
	__builtin_memcpy(r->server, p->remote, 16);
	r->port = p->remote_port;
	r->family = p->family;
	r->transport = p->protocol;
	r->sequence = sequence;
	r->length = length;
	r->sent = out;
	bpf_ringbuf_submit(r, wakeup(&bulk));
}

static __always_inline void udp_packet(struct __sk_buff *skb, struct packet *p, struct owner *owner, bool out)
{
	struct peer_key key = { .socket = bpf_get_socket_cookie(skb), .port = p->remote_port, .family = p->family };
	u64 bytes = skb->len > p->transport + 8 ? skb->len - p->transport - 8 : 0;
	u64 packets = skb->gso_segs > 1 ? skb->gso_segs : 1;
	struct peer *peer;

	__builtin_memcpy(key.addr, p->remote, 16);
	peer = bpf_map_lookup_elem(&peers, &key);
	if (!peer) {
		struct peer fresh = {};

		if (bpf_map_update_elem(&peers, &key, &fresh, BPF_NOEXIST) == 0) {
			struct endpoint_record r = {};

			r.h = header(KIND_ENDPOINT);
			if (owner) {
				r.actor = owner->actor;
				r.netns = owner->netns;
				owner->announced = 1;
			}
			r.socket = key.socket;
			r.since = r.h.at;
			__builtin_memcpy(r.local, p->local, 16);
			__builtin_memcpy(r.remote, p->remote, 16);
			r.local_port = p->local_port;
			r.remote_port = p->remote_port;
			r.family = p->family;
			r.transport = IPPROTO_UDP;
			r.direction = out ? DIRECTION_OUT : DIRECTION_IN;
			if (!give(&r, sizeof(r), CLASS_UDP)) {
				/* The next datagram tries again. */
				bpf_map_delete_elem(&peers, &key);
				return;
			}
		}
		peer = bpf_map_lookup_elem(&peers, &key);
		if (!peer) {
			lose(CLASS_UDP_TABLE);
			return;
		}
	}
	peer->last = bpf_ktime_get_boot_ns();
	__sync_fetch_and_add(out ? &peer->bytes_sent : &peer->bytes_received, bytes);
	__sync_fetch_and_add(out ? &peer->packets_sent : &peer->packets_received, packets);
}

static __always_inline void give_connection(struct packet *p, struct owner *owner, u64 cookie)
{
	struct endpoint_record r = {};

	r.h = header(KIND_ENDPOINT);
	fill_owner(&r, owner);
	r.socket = cookie;
	__builtin_memcpy(r.local, p->local, 16);
	__builtin_memcpy(r.remote, p->remote, 16);
	r.local_port = p->local_port;
	r.remote_port = p->remote_port;
	r.family = p->family;
	r.transport = IPPROTO_TCP;
	if (give(&r, sizeof(r), CLASS_TCP))
		owner->announced = 1;
}

static __always_inline int packet(struct __sk_buff *skb, bool out)
{
	struct bpf_sock *sk = skb->sk;
	struct packet p = {};
	struct owner *owner;

	if (!sk)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return PASS;
	if (sk->protocol == IPPROTO_TCP) {
		bool first = out && sk->state == BPF_TCP_SYN_SENT;

		if (!first && sk->dst_port != bpf_htons(DNS_PORT))
			return PASS;
		if (!dissect(skb, out, &p))
			return PASS;
		owner = bpf_sk_storage_get(&owners, sk, 0, 0);
		if (first && owner && !owner->announced)
			give_connection(&p, owner, bpf_get_socket_cookie(skb));
		if (p.remote_port == DNS_PORT)
			give_dns(skb, &p, owner, out);
		return PASS;
	}
	if (sk->protocol != IPPROTO_UDP || !dissect(skb, out, &p) || p.protocol != IPPROTO_UDP)
		return PASS;
	owner = bpf_sk_storage_get(&owners, sk, 0, 0);
	udp_packet(skb, &p, owner, out);
	if (p.remote_port == DNS_PORT)
		give_dns(skb, &p, owner, out);
	return PASS;
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	return packet(skb, true);
}

SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *skb)
{
	return packet(skb, false);
}

/* A new socket belongs to the network namespace of the task that makes it. */
static __always_inline u32 netns_of_current(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return READ(task, nsproxy, net_ns, ns.inum);
}

/* The task at hand owns a UDP socket from now on. */
static __always_inline struct owner *own(struct bpf_sock *sk)
{
	struct owner *owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!owner) {
		lose(CLASS_UDP);
		return NULL;
	}
	set_owner(owner, DIRECTION_NONE);
	owner->netns = netns_of_current();
	return owner;
}

/* Who made a UDP socket owns it, until another sends through it. */
SEC("cgroup/sock_create")
int on_socket(struct bpf_sock *sk)
{
	if (sk->type == SOCK_DGRAM && (sk->family == AF_INET || sk->family == AF_INET6))
		own(sk);
	return PASS;
}

static __always_inline int sends(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct owner *owner;

	if (!sk || ctx->protocol != IPPROTO_UDP)
		return PASS;
	owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (owner) {
		struct task_struct *task = bpf_get_current_task_btf();
		u8 announced = owner->announced;

		if (owner->actor.image.pid == (u32)task->tgid && owner->actor.image.start == task->group_leader->start_boottime &&
		    owner->actor.image.execs == execs(task) && owner->actor.euid == task->cred->euid.val)
			return PASS;
		set_owner(owner, DIRECTION_NONE);
		owner->announced = announced;
		owner->netns = netns_of_current();
	}
	return PASS;
}

SEC("cgroup/sendmsg4")
int on_send4(struct bpf_sock_addr *ctx)
{
	return sends(ctx);
}

SEC("cgroup/sendmsg6")
int on_send6(struct bpf_sock_addr *ctx)
{
	return sends(ctx);
}

/* A UDP socket that is bound to a port of its program's choice waits for peers: it is told of as a listener. */
static __always_inline int bound(struct bpf_sock *sk, u8 family)
{
	struct endpoint_record r = {};
	struct owner *owner;

	if (sk->protocol != IPPROTO_UDP)
		return PASS;
	owner = own(sk);
	if (!owner)
		return PASS;
	r.h = header(KIND_ENDPOINT);
	r.actor = owner->actor;
	r.since = r.h.at;
	r.socket = bpf_get_socket_cookie(sk);
	r.family = family;
	if (family == 4) {
		*(u32 *)r.local = sk->src_ip4;
	} else {
		u32 *local = (u32 *)r.local;

		local[0] = sk->src_ip6[0];
		local[1] = sk->src_ip6[1];
		local[2] = sk->src_ip6[2];
		local[3] = sk->src_ip6[3];
	}
	r.local_port = sk->src_port;
	r.transport = IPPROTO_UDP;
	r.direction = DIRECTION_LISTEN;
	r.netns = owner->netns;
	if (give(&r, sizeof(r), CLASS_UDP))
		owner->announced = 1;
	return PASS;
}

SEC("cgroup/post_bind4")
int on_bind4(struct bpf_sock *sk)
{
	return bound(sk, 4);
}

SEC("cgroup/post_bind6")
int on_bind6(struct bpf_sock *sk)
{
	return bound(sk, 6);
}

SEC("cgroup/sock_release")
int on_release(struct bpf_sock *sk)
{
	struct owner *owner;
	struct release_record r = {};

	if (sk->protocol != IPPROTO_UDP)
		return PASS;
	owner = bpf_sk_storage_get(&owners, sk, 0, 0);
	if (!owner || !owner->announced)
		return PASS;
	r.h = header(KIND_UDP_RELEASE);
	r.socket = bpf_get_socket_cookie(sk);
	give(&r, sizeof(r), CLASS_UDP);
	return PASS;
}
