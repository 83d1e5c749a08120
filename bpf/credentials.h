/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Changes of user and group ids and of capabilities, at the exit of the system calls that make them. Hooks: syscalls.h.
 * A change by exec is in the exec's own record.
 */
#pragma once

#include "privilege.h"

#define COMPAT_SETGROUPS16 81

static __always_inline int credentials_changed(u32 operation)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct credentials_record r = {};

	r.h = header(KIND_CREDENTIALS);
	fill_actor(&r.actor, task);
	fill_ids(&r.ids, task->cred);
	r.operation = operation;
	give(&r, sizeof(r), CLASS_CREDENTIALS);
	return 0;
}

/* Arguments: the ids that were asked for, as many as the call has. */
static __always_inline int credentials_refused(u32 operation, long ret)
{
	struct pt_regs *regs = registers();
	struct privilege_record *r;

	if (!refused(ret))
		return 0;
	r = privilege(operation, ret, CLASS_CREDENTIALS);
	if (!r)
		return 0;
	r->arguments[0] = FIRST(regs);
	r->arguments[1] = SECOND(regs);
	r->arguments[2] = THIRD(regs);
	return told_of(r);
}

#define ON_CHANGE(call, operation)                                                                                     \
	ON_EXIT                                                                                                        \
	int on_##call(struct syscall_exit *ctx)                                                                        \
	{                                                                                                              \
		return ctx->ret == 0 ? credentials_changed(operation) : credentials_refused(operation, ctx->ret);      \
	}

ON_CHANGE(setuid, OP_SETUID)
ON_CHANGE(setgid, OP_SETGID)
ON_CHANGE(setreuid, OP_SETREUID)
ON_CHANGE(setregid, OP_SETREGID)
ON_CHANGE(setresuid, OP_SETRESUID)
ON_CHANGE(setresgid, OP_SETRESGID)
ON_CHANGE(capset, OP_CAPSET)

/* These two return the id before, whatever happens. */
ON_EXIT
int on_setfsuid(struct syscall_exit *ctx)
{
	return credentials_changed(OP_SETFSUID);
}

ON_EXIT
int on_setfsgid(struct syscall_exit *ctx)
{
	return credentials_changed(OP_SETFSGID);
}

/* Arguments: how many supplementary groups; the text has the first of them, 32 bits each: those that the process has now, or asked for in vain. */
ON_EXIT
int on_setgroups(struct syscall_exit *ctx)
{
	struct pt_regs *regs = registers();
	struct privilege_record *r;

	if (ctx->ret < 0 && !refused(ctx->ret))
		return 0;
	r = privilege(OP_SETGROUPS, ctx->ret, CLASS_CREDENTIALS);
	if (!r)
		return 0;
	u32 count = FIRST(regs);
	const char *from = (const char *)SECOND(regs);

	r->arguments[0] = count;
	/* What the old call of 32-bit programs asked for has 16 bits each. */
	if (ctx->ret && is_compat() && CALL(regs) == COMPAT_SETGROUPS16)
		return told_of(r);
	if (ctx->ret == 0) {
		struct group_info *groups = READ(bpf_get_current_task_btf(), cred, group_info);

		from = (void *)groups + bpf_core_field_offset(struct group_info, gid);
	}
	/* One by one: a length that varies is hard to prove to the verifier. */
	for (u32 i = 0; i < sizeof(r->text) / sizeof(u32) && i < count; i++) {
		char *to = &r->text[i * sizeof(u32)];

		if (ctx->ret == 0)
			bpf_probe_read_kernel(to, sizeof(u32), &from[i * sizeof(u32)]);
		else
			bpf_probe_read_user(to, sizeof(u32), &from[i * sizeof(u32)]);
	}
	return told_of(r);
}
