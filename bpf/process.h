/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Processes: fork, exec, exit, change of name, exec refused.
 *
 * Hooks: BTF tracepoints, since Linux 5.5. They fire inside the kernel's own fork, exec and exit, for every task of every namespace; no system
 * call is told apart, so io_uring is seen as well. Refused execs come from the system call's exit (syscalls.h; since 5.15 for the arguments).
 */
#pragma once

#include "places.h"

#define ARGUMENTS_INLINE 2048
#define ARGUMENTS_PIECE 16384
#define ARGUMENTS_PIECES 16

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct scratch *s = scratch(SCRATCH_FORK);

	if (!s || child->pid != child->tgid)
		return 0;
	struct fork_record *f = (struct fork_record *)s;

	f->h = header(KIND_FORK);
	f->h.at = child->start_boottime;
	fill_task(&f->task, child, parent);
	u32 len = put_cgroup(child, SCRATCH_FORK, sizeof(struct fork_record));

	f->cgroup_len = len;
	give(s, sizeof(struct fork_record) + inside(len), CLASS_PROCESS);
	return 0;
}

/* Arguments that are on their way through the bulk ring. */
struct arguments {
	struct image image;
	u64 from, left;
	u32 offset;
};

static long give_piece(u32 turn, struct arguments *a)
{
	struct arguments_record *piece;
	u32 len = a->left < ARGUMENTS_PIECE ? a->left : ARGUMENTS_PIECE;

	if (!len)
		return 1;
	piece = bpf_ringbuf_reserve(&bulk, sizeof(*piece) + ARGUMENTS_PIECE, 0);
	if (!piece) {
		lose(CLASS_ARGUMENTS);
		return 1;
	}
	piece->h = header(KIND_ARGUMENTS);
	piece->image = a->image;
	piece->offset = a->offset;
	piece->len = len;
	/* The verifier of Linux 6.1 does not see the bound above. */
	asm volatile("" : "+r"(len));
	if (len > ARGUMENTS_PIECE || bpf_probe_read_user(piece->data, len, (void *)a->from)) {
		bpf_ringbuf_discard(piece, BPF_RB_NO_WAKEUP);
		lose(CLASS_ARGUMENTS);
		return 1;
	}
	bpf_ringbuf_submit(piece, wakeup(&bulk));
	a->offset += len;
	a->from += len;
	a->left -= len;
	return 0;
}

/*
 * What does not fit into the record itself goes ahead through the bulk ring, in pieces. Returns how much went. bpf_loop because the verifier of
 * Linux 6.1 takes each turn of a plain loop for another state.
 */
static __always_inline u32 give_arguments(struct image *image, u64 from, u64 left)
{
	struct arguments a = { .image = *image, .from = from, .left = left };

	bpf_loop(ARGUMENTS_PIECES, give_piece, &a, 0);
	return a.offset;
}

static __always_inline void fill_file(struct exec_record *e, struct file *file)
{
	struct inode *inode = file->f_inode;

	e->inode = inode->i_ino;
	e->size = inode->i_size;
	e->mtime = mtime(inode);
	e->ctime = ctime(inode);
	e->dev = inode->i_sb->s_dev;
	e->owner = inode->i_uid.val;
	e->mode = inode->i_mode;
	e->links = inode->i_nlink;
	e->unhashed = file->f_path.dentry->d_hash.pprev == NULL;
	e->remote = is_remote(inode);
}

/* Image, working directory and control group: what exec and iterator have in common. Returns where the strings end. */
static __always_inline u32 fill_program(struct exec_record *e, struct task_struct *task, u32 which)
{
	const u32 start = sizeof(struct exec_record);
	struct mm_struct *mm = task->mm;
	struct file *file = mm ? mm->exe_file : NULL;
	struct fs_struct *fs = task->fs;

	e->inode = e->size = e->mtime = e->ctime = 0;
	e->dev = e->owner = e->mode = e->links = e->unhashed = e->remote = e->pad = 0;
	e->path_len = e->cwd_len = 0;
	if (file) {
		fill_file(e, file);
		e->path_len = put_path(READ(file, f_path.dentry), READ(file, f_path.mnt), which, start);
	}
	if (fs)
		e->cwd_len = put_path(READ(fs, pwd.dentry), READ(fs, pwd.mnt), which, start + e->path_len);
	e->cgroup_len = put_cgroup(task, which, start + e->path_len + e->cwd_len);
	return e->path_len + e->cwd_len + e->cgroup_len;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	const u32 start = sizeof(struct exec_record);
	struct scratch *s = scratch(SCRATCH_EXEC);
	struct mm_struct *mm = task->mm;

	if (!s || !mm)
		return 0;
	struct exec_record *e = (struct exec_record *)s;
	char *data = (char *)s;

	e->h = header(KIND_EXEC);
	fill_task(&e->task, task, task->real_parent);
	u32 at = fill_program(e, task, SCRATCH_EXEC);
	u64 from = mm->arg_start, total = mm->arg_end - from;

	e->script = bprm->filename != bprm->interp;
	long n = 0;

	if (e->script) {
		n = bpf_probe_read_kernel_str(&data[inside(start + at)], 4096, bprm->filename);
		if (n < 0)
			n = 0;
	}
	e->filename_len = n;
	at += n;

	u32 here = total < ARGUMENTS_INLINE ? total : ARGUMENTS_INLINE;

	e->args_total = total;
	if (here && bpf_probe_read_user(&data[inside(start + at)], here, (void *)from)) {
		lose(CLASS_ARGUMENTS);
		here = 0;
		total = 0;
	}
	e->args_len = here;
	e->args_bulk = total > here ? give_arguments(&e->task.image, from + here, total - here) : 0;
	at += here;
	give(s, start + inside(at), CLASS_PROCESS);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	struct task_struct *leader = task->group_leader;
	struct exit_record r = {};

	/* The last thread of the process speaks for all. */
	if (signal->live.counter != 0)
		return 0;
	r.h = header(KIND_EXIT);
	fill_image(&r.image, task);
	r.status = signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code : leader->exit_code;
	r.utime = signal->utime + task->utime;
	r.stime = signal->stime + task->stime;
	r.runtime = signal->sum_sched_runtime + task->se.sum_exec_runtime;
	r.rchar = signal->ioac.rchar + task->ioac.rchar;
	r.wchar = signal->ioac.wchar + task->ioac.wchar;
	r.read_bytes = signal->ioac.read_bytes + task->ioac.read_bytes;
	r.write_bytes = signal->ioac.write_bytes + task->ioac.write_bytes;
	/* A leader that ended before its threads is not in the sums of the signal structure yet. */
	if (leader != task) {
		r.utime += leader->utime;
		r.stime += leader->stime;
		r.runtime += leader->se.sum_exec_runtime;
		r.rchar += leader->ioac.rchar;
		r.wchar += leader->ioac.wchar;
		r.read_bytes += leader->ioac.read_bytes;
		r.write_bytes += leader->ioac.write_bytes;
	}
	r.maxrss = signal->maxrss;
	give(&r, sizeof(r), CLASS_PROCESS);
	return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(on_rename, struct task_struct *task, const char *name)
{
	struct rename_record r = {};

	/* Threads name themselves all day; an exec says its new name itself. */
	if (task->pid != task->tgid || BPF_CORE_READ_BITFIELD_PROBED(task, in_execve))
		return 0;
	r.h = header(KIND_RENAME);
	fill_actor(&r.actor, task);
	bpf_probe_read_kernel(r.old, sizeof(r.old), task->comm);
	__builtin_memset(r.actor.comm, 0, sizeof(r.actor.comm));
	bpf_probe_read_kernel_str(r.actor.comm, sizeof(r.actor.comm), name);
	u64 *old = (u64 *)r.old, *new = (u64 *)r.actor.comm;

	if (old[0] == new[0] && old[1] == new[1])
		return 0;
	give(&r, sizeof(r), CLASS_RENAME);
	return 0;
}

#define ENOENT 2
#define DENIED_ARGUMENTS 64
#define DENIED_SIZE 8192

ON_EXIT
int next_exec_refused(struct syscall_exit *ctx)
{
	const u32 start = sizeof(struct denied_record);
	struct scratch *s = scratch(SCRATCH_DENIED);
	struct call *c = staged();

	if (!s)
		return 0;
	if (!c)
		return 0;
	struct denied_record *d = (struct denied_record *)s;
	char *data = (char *)s;

	d->h = header(KIND_EXEC_DENIED);
	fill_actor(&d->actor, bpf_get_current_task_btf());
	d->error = c->result;
	long n = bpf_probe_read_user_str(&data[start], 4096, (void *)c->name);

	if (n < 0)
		n = 0;
	d->path_len = n;
	u32 at = n;

	d->more = 1;
	for (int i = 0; i < DENIED_ARGUMENTS; i++) {
		u64 argument = 0;

		if (read_pointer(&argument, c->name2, i) || !argument) {
			d->more = 0;
			break;
		}
		if (at >= DENIED_SIZE)
			break;
		n = bpf_probe_read_user_str(&data[inside(start + at)], 4096, (void *)argument);
		if (n < 0)
			break;
		at += n;
	}
	d->args_len = at - d->path_len;
	give(s, start + inside(at), CLASS_EXEC_DENIED);
	return 0;
}

static __always_inline int exec_refused(struct syscall_exit *ctx, u64 path, u64 argv)
{
	struct call *c = ctx->ret < 0 && ctx->ret != -ENOENT ? stage(0, ctx->ret) : NULL;

	if (!c)
		return 0;
	c->name = path;
	c->name2 = argv;
	return go_on(ctx, NEXT_EXEC_REFUSED);
}

ON_EXIT
int on_execve_exit(struct syscall_exit *ctx)
{
	struct pt_regs *regs = registers();

	return exec_refused(ctx, FIRST(regs), SECOND(regs));
}

ON_EXIT
int on_execveat_exit(struct syscall_exit *ctx)
{
	struct pt_regs *regs = registers();

	return exec_refused(ctx, SECOND(regs), THIRD(regs));
}
