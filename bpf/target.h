/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whom or what a system call was aimed at: the task behind a pid, the file behind a descriptor. The caller's own tables are walked as the call
 * itself has just walked them; a task that was reaped meanwhile is not found, and another that has its pid since has a later start.
 */
#pragma once

#include "task.h"

#define NSFS_MAGIC 0x6e736673
#define PIDFS_MAGIC 0x50494446
/* 32 bits in steps of 4 or 6. */
#define XARRAY_DEPTH 8
#define XARRAY_NODE 2

/* As fill_actor, for a task that the verifier knows nothing of. */
static __always_inline void read_actor(struct actor *actor, struct task_struct *task)
{
	actor->image.pid = READ(task, tgid);
	if (bpf_core_field_size(task->self_exec_id) == 8) {
		actor->image.execs = (u32)(READ(task, self_exec_id) - READ(task, parent_exec_id));
	} else {
		struct task_struct___narrow *narrow = (void *)task;

		actor->image.execs = READ(narrow, self_exec_id) - READ(narrow, parent_exec_id);
	}
	actor->image.start = READ(task, group_leader, start_boottime);
	actor->euid = READ(task, cred, euid.val);
	actor->auid = READ(task, loginuid.val);
	actor->session = READ(task, sessionid);
	actor->tid = READ(task, pid);
	bpf_core_read(actor->comm, sizeof(actor->comm), &task->comm);
}

/* The entry of that number in an xarray: the kernel's own tree of 16 or 64 slots at a node. */
static __always_inline void *xarray_entry(void *entry, u32 index)
{
	u32 slots = bpf_core_field_size(((struct xa_node *)0)->slots) / sizeof(void *);
	u8 shift = 0;

	for (int i = 0; i < XARRAY_DEPTH; i++) {
		struct xa_node *node = entry - XARRAY_NODE;

		if (((u64)entry & 3) != XARRAY_NODE)
			break;
		shift = READ(node, shift);
		u32 slot = shift < 32 ? index >> shift : 0;

		/* Only the topmost node can be too small for the index. */
		if (i == 0 && slot >= slots)
			return NULL;
		void **at = (void **)((void *)node + bpf_core_field_offset(struct xa_node, slots));

		entry = NULL;
		bpf_probe_read_kernel(&entry, sizeof(entry), &at[slot & (slots - 1)]);
	}
	return (u64)entry & 3 ? NULL : entry;
}

static __always_inline struct task_struct *task_of(struct pid *pid)
{
	struct hlist_node *first = READ(pid, tasks[PIDTYPE_PID].first);

	return first ? (void *)first - bpf_core_field_offset(struct task_struct, pid_links) : NULL;
}

/* The task that the current one calls by that number. */
static __always_inline struct task_struct *task_of_number(u32 number)
{
	struct pid *own = bpf_get_current_task_btf()->thread_pid, *pid;
	struct pid_namespace *ns = NULL;
	u32 level = own->level;

	if (level >= 32 || !number)
		return NULL;
	bpf_core_read(&ns, sizeof(ns), &own->numbers[level].ns);
	pid = xarray_entry(READ(ns, idr.idr_rt.xa_head), number);
	return pid ? task_of(pid) : NULL;
}

static __always_inline void fill_target(struct actor *target, struct task_struct *task)
{
	if (task)
		read_actor(target, task);
}

/* The last component of the file's name. */
static __always_inline void put_file_name(char *text, u32 size, struct file *file)
{
	if (file)
		bpf_probe_read_kernel_str(text, size, READ(file, f_path.dentry, d_name.name));
}

/* The task behind a pidfd. The caller knows that it is one, because the kernel took it for one. */
static __always_inline struct task_struct *task_of_pidfd(int fd)
{
	struct file *file = file_of(fd);
	struct pid *pid;

	if (!file)
		return NULL;
	/* Since Linux 6.9 on a file system of its own. */
	if (READ(file, f_inode, i_sb, s_magic) == PIDFS_MAGIC)
		pid = READ(file, f_inode, i_private);
	else
		pid = READ(file, private_data);
	return pid ? task_of(pid) : NULL;
}
