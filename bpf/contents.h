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

struct content {
	u64 file;
	u64 size, mtime, ctime;
	struct access_key key;
};

/* A global function, so that the verifier looks at it once. */
int tell_content(struct content *c)
{
	const u32 start = sizeof(struct content_record);
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s = scratch(SCRATCH_FILE);

	if (!c || !s)
		return 0;
	struct content_record *r = (struct content_record *)s;
	struct file *file = (struct file *)c->file;
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct ascent a = { .dentry = BPF_CORE_READ(file, f_path.dentry), .which = DIGESTED };

	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFREG || !said_of(file, DIGESTED, bpf_ktime_get_boot_ns()))
		return 0;
	a.mount = mount_of(BPF_CORE_READ(file, f_path.mnt));
	struct walk w = { .scratch = SCRATCH_FILE, .start = start, .limit = PATH_LIMIT, .rooted = -1 };

	w.dentry = a.dentry;
	w.mount = a.mount;
	bpf_loop(PATH_DEPTH, ascend, &a, 0);
	if (!a.found)
		return 0;
	w.root = a.dentry;
	bpf_loop(PATH_DEPTH, rooted_step, &w, 0);
	u32 len = end_walk(&w);

	r->h = header(KIND_FILE_CONTENT);
	r->key = c->key;
	r->size = c->size;
	r->mtime = c->mtime;
	r->ctime = c->ctime;
	r->euid = task->cred->euid.val;
	r->place = a.found - 1;
	r->mntns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	r->remote = is_remote(inode);
	r->below = w.rooted;
	r->path_len = len;
	give(s, start + inside(len), CLASS_DIGEST);
	return 0;
}
