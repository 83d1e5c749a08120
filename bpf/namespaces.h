/* SPDX-License-Identifier: GPL-2.0 */
/* Namespaces that are made and entered. What there is to know of the hooks stands in privilege.h. */
#pragma once

#include "privilege.h"

#define ENOSPC 28
#define EUSERS 87
#define CLONE_NEWTIME 0x00000080
#define CLONE_NEWNS 0x00020000
#define CLONE_NEWCGROUP 0x02000000
#define CLONE_NEWUTS 0x04000000
#define CLONE_NEWIPC 0x08000000
#define CLONE_NEWUSER 0x10000000
#define CLONE_NEWPID 0x20000000
#define CLONE_NEWNET 0x40000000
/* In clone(2) the flag of the time namespace is a bit of the signal. */
#define CLONE_NEW                                                                                                      \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* The namespaces of a task, for itself and, of pids and time, for its children. */
static __always_inline void fill_spaces(u32 *spaces, struct task_struct *task)
{
	struct nsproxy *ns = task->nsproxy;

	spaces[SPACE_MNT] = ns->mnt_ns->ns.inum;
	spaces[SPACE_UTS] = ns->uts_ns->ns.inum;
	spaces[SPACE_IPC] = READ(ns, ipc_ns, ns.inum);
	spaces[SPACE_USER] = task->cred->user_ns->ns.inum;
	spaces[SPACE_PID] = READ(ns, pid_ns_for_children, ns.inum);
	spaces[SPACE_NET] = ns->net_ns->ns.inum;
	spaces[SPACE_CGROUP] = READ(ns, cgroup_ns, ns.inum);
	/* Since Linux 5.6. */
	if (bpf_core_field_exists(ns->time_ns_for_children))
		spaces[SPACE_TIME] = READ(ns, time_ns_for_children, ns.inum);
}

/* Arguments: the kinds, as flags of clone. With a namespace's own descriptor, the second is its number and the text its kind. */
ON_EXIT
int on_setns(struct syscall_exit *ctx)
{
	struct pt_regs *regs = registers();
	struct privilege_record *r;
	struct file *file;

	if (ctx->ret < 0 && !refused(ctx->ret))
		return 0;
	r = privilege(OP_SETNS, ctx->ret, CLASS_NAMESPACES);
	if (!r)
		return 0;
	r->arguments[0] = SECOND(regs);
	file = file_of(FIRST(regs));
	if (file && READ(file, f_inode, i_sb, s_magic) == NSFS_MAGIC) {
		struct ns_common *ns = READ(file, f_inode, i_private);

		r->arguments[1] = READ(ns, inum);
		bpf_probe_read_kernel_str(r->text, sizeof(r->text), READ(ns, ops, name));
	} else {
		fill_target(&r->target, task_of_pidfd(FIRST(regs)));
		if (ctx->ret == 0)
			fill_spaces(r->spaces, bpf_get_current_task_btf());
	}
	return told_of(r);
}

static __always_inline int namespaces_refused(u32 operation, long ret, u64 flags)
{
	if (!(flags & (CLONE_NEW | CLONE_NEWTIME)))
		return 0;
	/* The last two: the administrator's limits under /proc/sys/user. */
	if (!refused(ret) && ret != -ENOSPC && ret != -EUSERS)
		return 0;
	struct privilege_record *r = privilege(operation, ret, CLASS_NAMESPACES);

	if (!r)
		return 0;
	r->arguments[0] = flags;
	return told_of(r);
}

/* Arguments: the kinds, as flags of clone. */
ON_EXIT
int on_unshare(struct syscall_exit *ctx)
{
	u64 flags = FIRST(registers());

	if (ctx->ret < 0)
		return namespaces_refused(OP_UNSHARE, ctx->ret, flags);
	if (!(flags & (CLONE_NEW | CLONE_NEWTIME)))
		return 0;
	struct privilege_record *r = privilege(OP_UNSHARE, 0, CLASS_NAMESPACES);

	if (!r)
		return 0;
	r->arguments[0] = flags;
	fill_spaces(r->spaces, bpf_get_current_task_btf());
	return told_of(r);
}

ON_EXIT
int on_clone(struct syscall_exit *ctx)
{
	return ctx->ret < 0 ? namespaces_refused(OP_CLONE, ctx->ret, FIRST(registers()) & CLONE_NEW) : 0;
}

ON_EXIT
int on_clone3(struct syscall_exit *ctx)
{
	u64 flags = 0;

	/* The flags are the first of the structure. */
	if (ctx->ret >= 0 || bpf_probe_read_user(&flags, sizeof(flags), (void *)FIRST(registers())))
		return 0;
	return namespaces_refused(OP_CLONE, ctx->ret, flags);
}

/* A child that has other namespaces than its creator: whichever call it was. The target is the child. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_new_spaces, struct task_struct *parent, struct task_struct *child)
{
	struct nsproxy *before = parent->nsproxy, *after = child->nsproxy;
	u64 kinds = 0;

	if (before == after && parent->cred->user_ns == child->cred->user_ns)
		return 0;
	kinds |= before->mnt_ns != after->mnt_ns ? CLONE_NEWNS : 0;
	kinds |= before->uts_ns != after->uts_ns ? CLONE_NEWUTS : 0;
	kinds |= before->ipc_ns != after->ipc_ns ? CLONE_NEWIPC : 0;
	kinds |= before->net_ns != after->net_ns ? CLONE_NEWNET : 0;
	kinds |= before->cgroup_ns != after->cgroup_ns ? CLONE_NEWCGROUP : 0;
	kinds |= before->pid_ns_for_children != after->pid_ns_for_children ? CLONE_NEWPID : 0;
	kinds |= parent->cred->user_ns != child->cred->user_ns ? CLONE_NEWUSER : 0;
	if (bpf_core_field_exists(before->time_ns_for_children))
		kinds |= before->time_ns_for_children != after->time_ns_for_children ? CLONE_NEWTIME : 0;
	if (!kinds)
		return 0;
	struct privilege_record *r = privilege(OP_CLONE, 0, CLASS_NAMESPACES);

	if (!r)
		return 0;
	fill_target(&r->target, child);
	r->arguments[0] = kinds;
	fill_spaces(r->spaces, child);
	return told_of(r);
}
