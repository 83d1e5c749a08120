/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is there when the recorder starts: processes and sockets. Iterators, Linux 5.8; they run after the other programs are attached, so that
 * nothing falls between, and give their records through the iterator's own file.
 */
#pragma once

#include "tcp.h"
#include "packets.h"

SEC("iter/task")
int on_task(struct bpf_iter__task *ctx)
{
	const u32 start = sizeof(struct exec_record);
	struct task_struct *task = ctx->task;
	struct scratch *s = scratch(SCRATCH_TASK);

	if (!task || !s || task->pid != task->tgid)
		return 0;
	/* A process that ended and waits for its parent has been told of already, if only by the recorder before this one. */
	if (task->signal->live.counter == 0)
		return 0;
	struct exec_record *e = (struct exec_record *)s;

	e->h = header(KIND_TASK);
	fill_task(&e->task, task, task->real_parent);
	u32 at = fill_program(e, task, SCRATCH_TASK);

	e->filename_len = 0;
	e->script = 0;
	e->args_total = task->mm ? task->mm->arg_end - task->mm->arg_start : 0;
	e->args_len = 0;
	e->args_bulk = 0;
	u32 size = start + inside(at), bounded = size;

	bpf_seq_write(ctx->meta->seq, &size, sizeof(size));
	/* What was on the stack has no bound any more for the verifier of Linux 6.1. */
	asm volatile("" : "+r"(bounded));
	if (bounded <= sizeof(*s))
		bpf_seq_write(ctx->meta->seq, s, bounded);
	return 0;
}

SEC("iter/task_file")
int on_file(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct endpoint_record r = {};
	struct owner *owner;

	if (!task || !file)
		return 0;
	struct socket *socket = bpf_sock_from_file(file);

	if (!socket || !socket->sk)
		return 0;
	struct sock *sk = socket->sk;
	u16 family = sk->__sk_common.skc_family;
	u8 state = sk->__sk_common.skc_state;

	if (family != AF_INET && family != AF_INET6)
		return 0;
	if (sk->sk_protocol != IPPROTO_TCP && sk->sk_protocol != IPPROTO_UDP)
		return 0;
	if (sk->sk_protocol == IPPROTO_TCP && state == TCP_CLOSE)
		return 0;
	/* Whoever holds a socket first speaks for it, and what an event has already told is not told again. */
	owner = bpf_sk_storage_get(&owners, sk, 0, 0);
	if (owner && owner->announced)
		return 0;
	owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 0;
	if (!owner->actor.image.pid)
		fill_actor(&owner->actor, task);
	r.h = header(KIND_ENDPOINT);
	r.found = 1;
	r.actor = owner->actor;
	r.since = r.h.at;
	r.socket = bpf_get_socket_cookie(sk);
	r.transport = sk->sk_protocol;
	fill_addresses(&r, sk);
	if (sk->sk_protocol == IPPROTO_UDP && !r.local_port)
		return 0;
	if (state == TCP_LISTEN || (sk->sk_protocol == IPPROTO_UDP && !r.remote_port))
		r.direction = DIRECTION_LISTEN;
	else
		r.direction = owner->direction == DIRECTION_IN ? DIRECTION_IN : DIRECTION_OUT;
	owner->since = r.since;
	owner->netns = r.netns;
	owner->direction = sk->sk_protocol == IPPROTO_UDP ? DIRECTION_NONE : r.direction;
	owner->established = sk->sk_protocol == IPPROTO_TCP && state != TCP_SYN_SENT;
	owner->announced = 1;
	if (sk->sk_protocol == IPPROTO_UDP && r.remote_port) {
		struct peer_key key = { .socket = r.socket, .port = r.remote_port, .family = r.family };
		struct peer fresh = { .last = r.since };

		__builtin_memcpy(key.addr, r.remote, 16);
		bpf_map_update_elem(&peers, &key, &fresh, BPF_NOEXIST);
	}
	u32 size = sizeof(r);

	bpf_seq_write(ctx->meta->seq, &size, sizeof(size));
	bpf_seq_write(ctx->meta->seq, &r, sizeof(r));
	return 0;
}
