/* SPDX-License-Identifier: GPL-2.0 */
/*
 * System calls: where they come from, and their arguments.
 *
 * Hooks: the tracepoints sys_enter and sys_exit (BTF tracepoints of Linux 5.5), which every system call passes, those of 32-bit programs with numbers and
 * registers of their own among them. One program at each finds the one for the call by its number. A tracepoint for each call would do the same at a higher
 * price: perf's part of them costs more than looking up the number, the kernel takes a second to attach and detach a hundred of them, and they
 * leave out 32-bit programs, so that anyone could go unseen by `int 0x80`.
 */
#pragma once

#include "read.h"
#include <bpf/bpf_tracing.h>

/* What the tracepoint gives, for a program that names no arguments. */
struct syscall_entry {
	struct pt_regs *regs;
	long id;
};

struct syscall_exit {
	struct pt_regs *regs;
	long ret;
};

#define ON_ENTRY SEC("tp_btf/sys_enter")
#define ON_EXIT SEC("tp_btf/sys_exit")

#if defined(__TARGET_ARCH_x86)
#define TS_COMPAT 2

/* Whether the call came by the door for 32-bit programs, which any program may use. */
static __always_inline bool is_compat(void)
{
	return bpf_get_current_task_btf()->thread_info.status & TS_COMPAT;
}

#define CALL_FIELD orig_ax
#define ARGUMENT(regs, native, compat) (is_compat() ? (u32)READ(regs, compat) : READ(regs, native))
#define FIRST(regs) ARGUMENT(regs, di, bx)
#define SECOND(regs) ARGUMENT(regs, si, cx)
#define THIRD(regs) ARGUMENT(regs, dx, dx)
#define FOURTH(regs) ARGUMENT(regs, r10, si)
#define FIFTH(regs) ARGUMENT(regs, r8, di)
#else
#define TIF_32BIT 22

static __always_inline bool is_compat(void)
{
	return bpf_get_current_task_btf()->thread_info.flags >> TIF_32BIT & 1;
}

#define CALL_FIELD syscallno
#define FIRST(regs) READ(regs, orig_x0)
#define SECOND(regs) READ(regs, user_regs.regs[1])
#define THIRD(regs) READ(regs, user_regs.regs[2])
#define FOURTH(regs) READ(regs, user_regs.regs[3])
#define FIFTH(regs) READ(regs, user_regs.regs[4])
#endif

#define CALL(regs) READ(regs, CALL_FIELD)

static __always_inline struct pt_regs *registers(void)
{
	return (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
}

/* A pointer in the memory of the program that makes the call; not zero if it cannot be read. */
static __always_inline long read_pointer(u64 *to, u64 from, u32 index)
{
	u32 narrow = 0;

	if (!is_compat())
		return bpf_probe_read_user(to, sizeof(*to), (void *)(from + 8ul * index));
	long error = bpf_probe_read_user(&narrow, sizeof(narrow), (void *)(from + 4ul * index));

	*to = narrow;
	return error;
}

/* Programs by the number of the call that they see, native and of 32-bit programs. The recorder fills them at the start. */
#define CALLS(name)                                                                                                    \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                                 \
		__uint(max_entries, 512);                                                                              \
		__type(key, u32);                                                                                      \
		__type(value, u32);                                                                                    \
	} name SEC(".maps")

CALLS(entries);
CALLS(compat_entries);
CALLS(exits);
CALLS(compat_exits);

/*
 * A system call on its way to the programs that tell of it: many calls mean the same. Programs, and not functions, because each is verified once then,
 * and not once more for each call.
 */
struct call {
	u64 file;
	u64 name, name2;
	s32 dfd, dfd2;
	u32 operation;
	s32 result;
	u32 fd;
	u32 access;
	u32 flags;
	u32 argument, argument2;
	u32 which;
	u32 text;		/* name2 is no path: the contents of a symbolic link, the name of an attribute */
	u64 request;		/* as in a file's record; the names are the kernel's then */
	u64 creds;		/* whose rights it has, if not those of the task */
};

enum { NEXT_NAME, NEXT_FILE, NEXT_OPENED, NEXT_EXEC_REFUSED, NEXTS };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, NEXTS);
	__type(key, u32);
	__type(value, u32);
} nexts SEC(".maps");

/* Nothing interrupts a processor between the first program and the last, but what is no system call. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct call);
} calls SEC(".maps");

static __always_inline struct call *staged(void)
{
	u32 only = 0;

	return bpf_map_lookup_elem(&calls, &only);
}

static __always_inline struct call *stage(u32 operation, long ret)
{
	struct call *c = staged();

	if (!c)
		return NULL;
	__builtin_memset(c, 0, sizeof(*c));
	c->operation = operation;
	c->result = ret < 0 ? -ret : 0;
	return c;
}

static __always_inline int go_on(struct syscall_exit *ctx, u32 next)
{
	bpf_tail_call(ctx, &nexts, next);
	return 0;
}

/* The first word of a structure that a call was given. */
static __always_inline u64 first_word(u64 address)
{
	u64 word = 0;

	bpf_probe_read_user(&word, sizeof(word), (void *)address);
	return word;
}

ON_ENTRY
int on_sys_enter(struct syscall_entry *ctx)
{
	if (is_compat())
		bpf_tail_call(ctx, &compat_entries, ctx->id);
	else
		bpf_tail_call(ctx, &entries, ctx->id);
	return 0;
}

ON_EXIT
int on_sys_exit(struct syscall_exit *ctx)
{
	struct pt_regs *regs = ctx->regs;
	u32 call = regs->CALL_FIELD;

	if (is_compat())
		bpf_tail_call(ctx, &compat_exits, call);
	else
		bpf_tail_call(ctx, &exits, call);
	return 0;
}
