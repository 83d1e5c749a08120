/* SPDX-License-Identifier: GPL-2.0 */
/* Memory, registers and descriptors of another process. What there is to know of the hooks stands in privilege.h. */
#pragma once

#include "privilege.h"

#define EEXIST 17
#define PTRACE_POKETEXT 4
#define PTRACE_POKEDATA 5
#define PTRACE_POKEUSR 6
#define PTRACE_SETREGS 13
#define PTRACE_SETFPREGS 15
#define PTRACE_ATTACH 16
#define PTRACE_SETREGSET 0x4205
#define PTRACE_SEIZE 0x4206
#define PTRACE_SET_SYSCALL_INFO 0x4212

/* What a debugger repeats word by word is told once for the two images and the kind of act. */
struct repeated {
	struct image actor, target;
	u32 operation, request;
	s32 error;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct repeated);
	__type(value, u8);
} told SEC(".maps");

/* Whether this very act has been told of already; from now on it has. */
static __always_inline bool is_repeated(struct repeated *key)
{
	u8 once = 1;

	return bpf_map_update_elem(&told, key, &once, BPF_NOEXIST) == -EEXIST;
}

/* `folded`: an act that debuggers repeat. */
static __always_inline int memory_touched(u32 operation, long ret, u64 argument, struct task_struct *task, bool folded)
{
	struct repeated key = {};
	struct actor target = {};
	struct privilege_record *r;

	fill_target(&target, task);
	fill_image(&key.actor, bpf_get_current_task_btf());
	/* Its own threads are no other process. */
	if (target.image.pid == key.actor.pid)
		return 0;
	key.target = target.image;
	key.operation = operation;
	key.request = operation == OP_PTRACE ? argument : 0;
	key.error = ret < 0 ? -ret : 0;
	if (folded && is_repeated(&key))
		return 0;
	r = privilege(operation, ret, CLASS_PTRACE);
	if (!r) {
		bpf_map_delete_elem(&told, &key);
		return 0;
	}
	r->target = target;
	r->arguments[0] = argument;
	return told_of(r);
}

/* Arguments: the request. */
ON_EXIT
int on_ptrace(struct syscall_exit *ctx)
{
	struct pt_regs *regs = registers();
	u64 request = FIRST(regs);

	if (ctx->ret < 0 && !refused(ctx->ret))
		return 0;
	switch (request) {
	case PTRACE_ATTACH:
	case PTRACE_SEIZE:
	case PTRACE_POKETEXT:
	case PTRACE_POKEDATA:
	case PTRACE_POKEUSR:
	case PTRACE_SETREGS:
	case PTRACE_SETFPREGS:
	case PTRACE_SETREGSET:
	case PTRACE_SET_SYSCALL_INFO:
		break;
	default:
		return 0;
	}
	return memory_touched(OP_PTRACE, ctx->ret, request, task_of_number(SECOND(regs)),
			      request != PTRACE_ATTACH && request != PTRACE_SEIZE);
}

/* Arguments: bytes. */
static __always_inline int memory_copied(u32 operation, long ret)
{
	if (ret < 0 && !refused(ret))
		return 0;
	return memory_touched(operation, ret, ret < 0 ? 0 : ret, task_of_number(FIRST(registers())), true);
}

ON_EXIT
int on_process_vm_readv(struct syscall_exit *ctx)
{
	return memory_copied(OP_PROCESS_VM_READV, ctx->ret);
}

ON_EXIT
int on_process_vm_writev(struct syscall_exit *ctx)
{
	return memory_copied(OP_PROCESS_VM_WRITEV, ctx->ret);
}

/* Arguments: the other process's descriptor. */
ON_EXIT
int on_pidfd_getfd(struct syscall_exit *ctx)
{
	struct pt_regs *regs = registers();

	if (ctx->ret < 0 && !refused(ctx->ret))
		return 0;
	return memory_touched(OP_PIDFD_GETFD, ctx->ret, SECOND(regs), task_of_pidfd(FIRST(regs)), false);
}
