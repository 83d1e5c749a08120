/* SPDX-License-Identifier: GPL-2.0 */
/*
 * TCP: connections out, connections in, listeners.
 *
 * Hook: BTF tracepoint inet_sock_set_state, Linux 5.5, which every change of a TCP socket's state passes, in every namespace and through
 * io_uring too. Who connects or listens is the task that makes the change. Which task accepts is only known at the exit of accept(2), or when a request to
 * io_uring is done (uring.h); where it is not seen a connection in belongs to the process that listens.
 */
#pragma once

#include "endpoint.h"

enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_CLOSE = 7,
	TCP_LISTEN = 10,
};

static __always_inline void give_endpoint(struct sock *sk, struct owner *owner, u32 kind, s32 result)
{
	struct endpoint_record r = {};

	r.h = header(kind);
	r.socket = bpf_get_socket_cookie(sk);
	r.transport = IPPROTO_TCP;
	r.result = result;
	if (owner)
		fill_owner(&r, owner);
	fill_addresses(&r, sk);
	if (kind == KIND_ENDPOINT_END)
		fill_traffic(&r, sk);
	if (give(&r, sizeof(r), CLASS_TCP) && owner)
		owner->announced = 1;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	struct owner *owner;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (new == TCP_SYN_SENT || new == TCP_LISTEN) {
		owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!owner) {
			lose(CLASS_TCP);
			return 0;
		}
		set_owner(owner, new == TCP_LISTEN ? DIRECTION_LISTEN : DIRECTION_OUT);
		owner->netns = netns_of(sk);
		/* A connection is told of when its first segment leaves: before, it has no port. */
		if (new == TCP_LISTEN)
			give_endpoint(sk, owner, KIND_ENDPOINT, 0);
		return 0;
	}
	owner = bpf_sk_storage_get(&owners, sk, 0, 0);
	if (new == TCP_ESTABLISHED) {
		/* Unless both sides called at once, or a socket reached itself: that one called. */
		if (old == TCP_SYN_RECV && (!owner || owner->direction != DIRECTION_OUT)) {
			if (!owner)
				owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
			if (!owner) {
				lose(CLASS_TCP);
				return 0;
			}
			owner->since = bpf_ktime_get_boot_ns();
			owner->direction = DIRECTION_IN;
			owner->announced = 0;
			/* accept(2) finds the connection by it. */
			bpf_get_socket_cookie(sk);
		} else if (owner && !owner->announced) {
			give_endpoint(sk, owner, KIND_ENDPOINT, 0);
		}
		if (owner)
			owner->established = 1;
		return 0;
	}
	if (new != TCP_CLOSE || !owner)
		return 0;
	if (old == TCP_LISTEN) {
		give_endpoint(sk, owner, KIND_ENDPOINT_END, -1);
	} else if (owner->direction == DIRECTION_OUT || (owner->direction == DIRECTION_IN && owner->established)) {
		s32 result = 0;

		if (!owner->established)
			result = sk->sk_err ? sk->sk_err : -1;
		give_endpoint(sk, owner, KIND_ENDPOINT_END, result);
	}
	bpf_sk_storage_delete(&owners, sk);
	return 0;
}

static __always_inline struct sock *socket_of(struct file *file)
{
	if (!file)
		return NULL;
	struct socket *socket = READ(file, private_data);

	/* A file that is no socket has something else there; a socket points back to its file. */
	if (!socket || READ(socket, file) != file)
		return NULL;
	return READ(socket, sk);
}

static __always_inline bool is_tcp(const struct sock *sk)
{
	u16 family = READ(sk, __sk_common.skc_family);

	return (family == AF_INET || family == AF_INET6) && READ(sk, sk_protocol) == IPPROTO_TCP;
}

static __always_inline int accepted(long fd)
{
	struct endpoint_record r = {};
	struct sock *sk;

	if (fd < 0)
		return 0;
	sk = socket_of(file_of(fd));
	if (!sk || !is_tcp(sk) || READ(sk, __sk_common.skc_state) == TCP_CLOSE)
		return 0;
	r.h = header(KIND_ENDPOINT);
	fill_actor(&r.actor, bpf_get_current_task_btf());
	r.socket = READ(sk, __sk_common.skc_cookie.counter);
	r.since = r.h.at;
	r.transport = IPPROTO_TCP;
	r.direction = DIRECTION_IN;
	fill_addresses(&r, sk);
	give(&r, sizeof(r), CLASS_TCP_ACCEPT);
	return 0;
}

ON_EXIT
int on_accept(struct syscall_exit *ctx)
{
	return accepted(ctx->ret);
}

struct address {
	u16 family;
	u16 port;
	u8 rest[24];
};

/*
 * A connection that failed before it began: no route, refused by a local filter, no port free. The state never changed, or changed back without an
 * error; the recorder tells these from connections that the state tracepoint has already reported.
 */
static __always_inline int connected(long ret, struct file *file, u64 name)
{
	const int EINTR = 4, EALREADY = 114, EINPROGRESS = 115, EISCONN = 106;
	struct endpoint_record r = {};
	struct address address = {};
	struct sock *sk;

	if (ret >= 0 || ret == -EINPROGRESS || ret == -EALREADY || ret == -EISCONN || ret == -EINTR)
		return 0;
	sk = socket_of(file);
	if (!sk || !is_tcp(sk))
		return 0;
	if (bpf_probe_read_user(&address, 16, (void *)name))
		return 0;
	r.h = header(KIND_CONNECT_FAILED);
	fill_actor(&r.actor, bpf_get_current_task_btf());
	r.since = r.h.at;
	r.socket = READ(sk, __sk_common.skc_cookie.counter);
	r.transport = IPPROTO_TCP;
	r.direction = DIRECTION_OUT;
	r.result = -ret;
	fill_addresses(&r, sk);
	r.remote_port = bpf_ntohs(address.port);
	if (address.family == AF_INET) {
		if (r.family == 6)
			__builtin_memset(r.local, 0, sizeof(r.local));
		r.family = 4;
		__builtin_memcpy(r.remote, address.rest, 4);
	} else if (address.family == AF_INET6) {
		r.family = 6;
		if (bpf_probe_read_user(&address, 28, (void *)name))
			return 0;
		__builtin_memcpy(r.remote, address.rest + 4, 16);
	} else {
		return 0;
	}
	give(&r, sizeof(r), CLASS_TCP);
	return 0;
}

ON_EXIT
int on_connect(struct syscall_exit *ctx)
{
	struct pt_regs *regs = registers();

	return connected(ctx->ret, file_of(FIRST(regs)), SECOND(regs));
}

/* Of 32-bit programs alone: one call for all that is done to sockets, with the arguments in memory. */
ON_EXIT
int on_socketcall(struct syscall_exit *ctx)
{
	enum { CONNECT = 3, ACCEPT = 5, ACCEPT4 = 18 };
	struct pt_regs *regs = registers();
	u32 arguments[2] = {};

	switch (FIRST(regs)) {
	case ACCEPT:
	case ACCEPT4:
		return accepted(ctx->ret);
	case CONNECT:
		if (bpf_probe_read_user(arguments, sizeof(arguments), (void *)SECOND(regs)))
			return 0;
		return connected(ctx->ret, file_of(arguments[0]), arguments[1]);
	}
	return 0;
}
