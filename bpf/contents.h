/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Files that were closed with new contents, below a directory whose files are digested.
 *
 * The recorder reads them: here it is told which file it was, and by which path it can be found. Not told: contents that change without a close
 * (by a mapping that outlives it, by truncate(2), through io_uring).
 */
#pragma once

#include "places.h"

#define S_IFMT 0170000
#define S_IFREG 0100000
/* Two names and two paths have to fit into a scratch. */
#define PATH_LIMIT 4000

/*
 * Functions of their own, one after the other, each with room of its own on the stack: that of one program is 512 bytes with all whom it calls, and Linux 6.1
 * counts generously. Global, and what they are given numbers, so that the verifier looks at each once.
 */

/* Adds the path to a record that is complete but for it, in the scratch for files, and gives it. */
__attribute__((noinline)) int write_content(u64 address)
{
	const u32 start = sizeof(struct content_record);
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s = scratch(SCRATCH_FILE);

	if (!s)
		return 0;
	struct content_record *r = (struct content_record *)s;
	struct file *file = (struct file *)address;
	struct ascent a = { .dentry = BPF_CORE_READ(file, f_path.dentry), .which = DIGESTED };

	a.mount = mount_of(BPF_CORE_READ(file, f_path.mnt));
	struct walk w = { .scratch = SCRATCH_FILE, .start = start, .limit = PATH_LIMIT, .rooted = -1 };

	stand_at(&w, a.dentry, a.mount);
	bpf_loop(PATH_DEPTH, ascend, &a, 0);
	if (!a.found)
		return 0;
	w.root = a.dentry;
	bpf_loop(PATH_DEPTH, rooted_step, &w, 0);
	u32 len = end_walk(&w);

	r->h = header(KIND_FILE_CONTENT);
	r->euid = task->cred->euid.val;
	r->place = a.found - 1;
	r->mntns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	r->remote = is_remote(BPF_CORE_READ(file, f_inode));
	r->below = w.rooted;
	r->path_len = len;
	give(s, start + inside(len), CLASS_DIGEST);
	return 0;
}

/* A file was closed with new contents: what it was stands in a record in the scratch for files already. */
__attribute__((noinline)) int tell_content(u64 address)
{
	struct file *file = (struct file *)address;

	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFREG || !said_of(file, DIGESTED, bpf_ktime_get_boot_ns()))
		return 0;
	return write_content(address);
}
