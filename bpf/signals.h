/* SPDX-License-Identifier: GPL-2.0 */
/* Signals that a process of one user sends to one of another, or anybody to the recorder. What there is to know of the hooks stands in privilege.h. */
#pragma once

#include "privilege.h"

#define SI_USER 0
#define SI_QUEUE -1
#define SI_TKILL -6

#if defined(__TARGET_ARCH_x86)
#define CALL_RT_SIGQUEUEINFO 129
#define CALL_RT_TGSIGQUEUEINFO 297
#else
#define CALL_RT_SIGQUEUEINFO 138
#define CALL_RT_TGSIGQUEUEINFO 240
#endif
#define CALL_PIDFD_SEND_SIGNAL 424
/* The same of 32-bit programs of x86. */
#define COMPAT (1 << 16)
#define COMPAT_RT_SIGQUEUEINFO (COMPAT | 178)
#define COMPAT_RT_TGSIGQUEUEINFO (COMPAT | 335)
#define COMPAT_PIDFD_SEND_SIGNAL (COMPAT | CALL_PIDFD_SEND_SIGNAL)

/* Whom a signal was meant for: a process, a process group, all. */
enum aim { AIM_PROCESS, AIM_GROUP, AIM_ALL };

/* Whether the current task sent it by a system call. The code cannot decide alone: rt_sigqueueinfo lets the sender choose the kernel's own. */
static __always_inline bool is_sent(struct kernel_siginfo *info)
{
	int code = READ(info, si_code);

	if (code > 0)
		return false;
	if (code == SI_USER || code == SI_QUEUE || code == SI_TKILL)
		return true;
	switch ((int)CALL(registers()) | (is_compat() ? COMPAT : 0)) {
	case CALL_RT_SIGQUEUEINFO:
	case CALL_RT_TGSIGQUEUEINFO:
	case CALL_PIDFD_SEND_SIGNAL:
	case COMPAT_RT_SIGQUEUEINFO:
	case COMPAT_RT_TGSIGQUEUEINFO:
	case COMPAT_PIDFD_SEND_SIGNAL:
		return true;
	default:
		return false;
	}
}

/* Arguments: the signal. */
SEC("tp_btf/signal_generate")
int BPF_PROG(on_signal, int number, struct kernel_siginfo *info, struct task_struct *target)
{
	const struct cred *own = bpf_get_current_task_btf()->cred, *other = target->cred;

	bool aimed = is_own(target->tgid) && is_other();

	if (own->uid.val == other->uid.val && own->euid.val == other->euid.val && !aimed)
		return 0;
	/* 0 and 1 stand for the kernel itself. */
	if (ctx[1] <= 1 || !is_sent(info))
		return 0;
	struct privilege_record *r = privilege(OP_SIGNAL, 0, CLASS_SIGNALS);

	if (!r)
		return 0;
	fill_target(&r->target, target);
	r->arguments[0] = number;
	return told_of(r);
}

/* Arguments: the signal, enum aim, and the process group. */
static __always_inline int signal_refused(long ret, struct task_struct *target, int number, enum aim aim, u32 group)
{
	/* Signal 0 only asks whether there is such a process. */
	if (!refused(ret) || !number)
		return 0;
	struct privilege_record *r = privilege(OP_SIGNAL, ret, CLASS_SIGNALS);

	if (!r)
		return 0;
	fill_target(&r->target, target);
	r->arguments[0] = number;
	r->arguments[1] = aim;
	r->arguments[2] = group;
	return told_of(r);
}

ON_EXIT
int on_kill(struct syscall_exit *ctx)
{
	struct pt_regs *regs;
	int pid;

	if (ctx->ret >= 0)
		return 0;
	regs = registers();
	pid = FIRST(regs);
	if (pid > 0)
		return signal_refused(ctx->ret, task_of_number(pid), SECOND(regs), AIM_PROCESS, 0);
	return signal_refused(ctx->ret, NULL, SECOND(regs), pid == -1 ? AIM_ALL : AIM_GROUP, -pid);
}

/* By the number of a thread or process. */
static __always_inline int one_refused(long ret, u32 pid, int number)
{
	return ret >= 0 ? 0 : signal_refused(ret, task_of_number(pid), number, AIM_PROCESS, 0);
}

ON_EXIT
int on_tkill(struct syscall_exit *ctx)
{
	struct pt_regs *regs = registers();

	return one_refused(ctx->ret, FIRST(regs), SECOND(regs));
}

ON_EXIT
int on_tgkill(struct syscall_exit *ctx)
{
	struct pt_regs *regs = registers();

	return one_refused(ctx->ret, SECOND(regs), THIRD(regs));
}

ON_EXIT
int on_pidfd_send_signal(struct syscall_exit *ctx)
{
	struct pt_regs *regs;

	if (ctx->ret >= 0)
		return 0;
	regs = registers();
	return signal_refused(ctx->ret, task_of_pidfd(FIRST(regs)), SECOND(regs), AIM_PROCESS, 0);
}
