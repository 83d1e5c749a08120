/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is done to names and to what files are: success, and denial.
 *
 * Hooks: the exits of system calls (syscalls.h). Where the kernel lets programs note its own names during the call (notes.h), those are told. Else it has
 * no object at hand at the exit that says which name it resolved: the name is the process's own, read after the call, and the directory that it starts
 * from is the kernel's; a process that changes the name in its memory during the call is told of with the changed one. What goes through
 * io_uring is in uring.h.
 */
#pragma once

#include "notes.h"

static __always_inline bool is_worth(long ret)
{
	return ret == 0 || is_denial(ret);
}

ON_EXIT
int next_name(struct syscall_exit *ctx)
{
	struct call *c = staged();

	if (!c || tell_note(c, -1))
		return 0;
	return tell_name(c);
}

ON_EXIT
int next_file(struct syscall_exit *ctx)
{
	struct call *c = staged();

	if (!c || tell_note(c, c->fd))
		return 0;
	return c->file ? tell_file(c) : 0;
}

/* A call that names one file; `dfd` and `name` are its arguments. */
#define ON_NAME(call_name, op, dfd_, name_, argument_, argument2_)                                                     \
	ON_EXIT                                                                                                        \
	int on_file_##call_name(struct syscall_exit *ctx)                                                              \
	{                                                                                                              \
		struct pt_regs *regs = registers();                                                                    \
		struct call *c = is_worth(ctx->ret) ? stage(op, ctx->ret) : NULL;                                      \
                                                                                                                       \
		if (!c)                                                                                                \
			return forget_note();                                                                          \
		c->dfd = dfd_;                                                                                         \
		c->name = name_;                                                                                       \
		c->argument = argument_;                                                                               \
		c->argument2 = argument2_;                                                                             \
		return go_on(ctx, NEXT_NAME);                                                                          \
	}

/* A call that names two, or one and a text. */
#define ON_NAMES(call_name, op, dfd_, name_, dfd2_, name2_, text_)                                                     \
	ON_EXIT                                                                                                        \
	int on_file_##call_name(struct syscall_exit *ctx)                                                              \
	{                                                                                                              \
		struct pt_regs *regs = registers();                                                                    \
		struct call *c = is_worth(ctx->ret) ? stage(op, ctx->ret) : NULL;                                      \
                                                                                                                       \
		if (!c)                                                                                                \
			return forget_note();                                                                          \
		c->text = text_;                                                                                       \
		c->dfd = dfd_;                                                                                         \
		c->name = name_;                                                                                       \
		c->dfd2 = dfd2_;                                                                                       \
		c->name2 = name2_;                                                                                     \
		return go_on(ctx, NEXT_NAME);                                                                          \
	}

/* A call that names a file by its descriptor. */
#define ON_FD(call_name, op, name2_, argument_, argument2_)                                                            \
	ON_EXIT                                                                                                        \
	int on_file_##call_name(struct syscall_exit *ctx)                                                              \
	{                                                                                                              \
		struct pt_regs *regs = registers();                                                                    \
		struct call *c = is_worth(ctx->ret) ? stage(op, ctx->ret) : NULL;                                      \
                                                                                                                       \
		if (!c)                                                                                                \
			return forget_note();                                                                          \
		c->fd = FIRST(regs);                                                                                   \
		c->file = (u64)file_of(c->fd);                                                                         \
		c->name2 = name2_;                                                                                     \
		c->argument = argument_;                                                                               \
		c->argument2 = argument2_;                                                                             \
		return go_on(ctx, NEXT_FILE);                                                                          \
	}

ON_NAME(unlink, FILE_UNLINK, AT_FDCWD, FIRST(regs), 0, 0)
ON_NAME(unlinkat, FILE_UNLINK, FIRST(regs), SECOND(regs), THIRD(regs), 0)
ON_NAME(rmdir, FILE_RMDIR, AT_FDCWD, FIRST(regs), 0, 0)
ON_NAME(mkdir, FILE_MKDIR, AT_FDCWD, FIRST(regs), SECOND(regs), 0)
ON_NAME(mkdirat, FILE_MKDIR, FIRST(regs), SECOND(regs), THIRD(regs), 0)
ON_NAME(mknod, FILE_MKNOD, AT_FDCWD, FIRST(regs), SECOND(regs), THIRD(regs))
ON_NAME(mknodat, FILE_MKNOD, FIRST(regs), SECOND(regs), THIRD(regs), FOURTH(regs))
ON_NAMES(rename, FILE_RENAME, AT_FDCWD, FIRST(regs), AT_FDCWD, SECOND(regs), 0)
ON_NAMES(renameat2, FILE_RENAME, FIRST(regs), SECOND(regs), THIRD(regs), FOURTH(regs), 0)
ON_NAMES(link, FILE_LINK, AT_FDCWD, FIRST(regs), AT_FDCWD, SECOND(regs), 0)
ON_NAMES(linkat, FILE_LINK, FIRST(regs), SECOND(regs), THIRD(regs), FOURTH(regs), 0)
ON_NAMES(symlink, FILE_SYMLINK, AT_FDCWD, SECOND(regs), 0, FIRST(regs), 1)
ON_NAMES(symlinkat, FILE_SYMLINK, SECOND(regs), THIRD(regs), 0, FIRST(regs), 1)
ON_NAME(chmod, FILE_CHMOD, AT_FDCWD, FIRST(regs), SECOND(regs), 0)
ON_NAME(fchmodat, FILE_CHMOD, FIRST(regs), SECOND(regs), THIRD(regs), 0)
ON_FD(fchmod, FILE_CHMOD, 0, SECOND(regs), 0)
ON_NAME(chown, FILE_CHOWN, AT_FDCWD, FIRST(regs), SECOND(regs), THIRD(regs))
ON_NAME(fchownat, FILE_CHOWN, FIRST(regs), SECOND(regs), THIRD(regs), FOURTH(regs))
ON_FD(fchown, FILE_CHOWN, 0, SECOND(regs), THIRD(regs))
ON_NAMES(setxattr, FILE_XATTR, AT_FDCWD, FIRST(regs), 0, SECOND(regs), 1)
ON_NAMES(setxattrat, FILE_XATTR, FIRST(regs), SECOND(regs), 0, FOURTH(regs), 1)
ON_FD(fsetxattr, FILE_XATTR, SECOND(regs), 0, 0)
ON_NAME(truncate, FILE_TRUNCATE, AT_FDCWD, FIRST(regs), 0, 0)
ON_FD(ftruncate, FILE_TRUNCATE, 0, 0, 0)
ON_NAME(utimensat, FILE_UTIMES, FIRST(regs), SECOND(regs), 0, 0)
ON_NAME(utimes, FILE_UTIMES, AT_FDCWD, FIRST(regs), 0, 0)
ON_NAMES(mount, FILE_MOUNT, AT_FDCWD, SECOND(regs), 0, FIRST(regs), 1)
ON_NAMES(move_mount, FILE_MOUNT, THIRD(regs), FOURTH(regs), FIRST(regs), SECOND(regs), 0)
ON_NAME(umount, FILE_UMOUNT, AT_FDCWD, FIRST(regs), SECOND(regs), 0)
