/* SPDX-License-Identifier: GPL-2.0 */
/* Who a task is, and the strings around it: read from the kernel's own structures, never from what the process says. */
#pragma once

#include "maps.h"
#include "syscalls.h"

/* A path of PATH_MAX bytes has at most half as many components; mounts between them count as well. */
#define PATH_DEPTH 4096
#define NAME_SIZE 256
#define CGROUP_DEPTH 16
#define DATA_MASK 0x3fff
/* Room for strings: a write of up to 4096 bytes at any masked offset stays inside. */
#define DATA_SIZE (DATA_MASK + 1 + 4096)

/* Where one program puts a record of variable size together. Each program has its own: another may interrupt it. */
struct scratch {
	char room[sizeof(struct exec_record) + DATA_SIZE];
};

enum { SCRATCH_FORK, SCRATCH_EXEC, SCRATCH_DENIED, SCRATCH_TASK, SCRATCH_FILE, SCRATCH_END, SCRATCHES };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct scratch *scratch(u32 which)
{
	return bpf_map_lookup_elem(&scratches, &which);
}

/* An offset into a scratch, in words that neither compiler nor verifier can lose. */
static __always_inline u32 inside(u32 offset)
{
	asm volatile("%0 &= %1" : "+r"(offset) : "i"(DATA_MASK));
	return offset;
}

static __always_inline u32 execs(struct task_struct *task)
{
	if (bpf_core_field_size(task->self_exec_id) == 8)
		return (u32)(task->self_exec_id - task->parent_exec_id);
	struct task_struct___narrow *narrow = (void *)task;

	return BPF_CORE_READ(narrow, self_exec_id) - BPF_CORE_READ(narrow, parent_exec_id);
}

/* A process is its leading thread. Its start moves with it when another thread execs. */
static __always_inline void fill_image(struct image *image, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;

	image->pid = task->tgid;
	image->execs = execs(task);
	image->start = leader->start_boottime;
}

static __always_inline void fill_actor(struct actor *actor, struct task_struct *task)
{
	fill_image(&actor->image, task);
	actor->euid = task->cred->euid.val;
	actor->auid = task->loginuid.val;
	actor->session = task->sessionid;
	actor->tid = task->pid;
	/* The kernel's own threads of a process, for io_uring, have names of their own. */
	if (task->flags & PF_IO_WORKER)
		bpf_probe_read_kernel(actor->comm, sizeof(actor->comm), task->group_leader->comm);
	else
		bpf_probe_read_kernel(actor->comm, sizeof(actor->comm), task->comm);
}

/* Eight bytes at the field's place, whatever its type is called in this kernel. */
#define CAPABILITIES(cred, set)                                                                                        \
	({                                                                                                             \
		u64 bits = 0;                                                                                          \
		bpf_core_read(&bits, sizeof(bits), &(cred)->set);                                                      \
		bits;                                                                                                  \
	})

static __always_inline void fill_ids(struct ids *ids, const struct cred *cred)
{
	ids->uid = cred->uid.val;
	ids->euid = cred->euid.val;
	ids->suid = cred->suid.val;
	ids->fsuid = cred->fsuid.val;
	ids->gid = cred->gid.val;
	ids->egid = cred->egid.val;
	ids->sgid = cred->sgid.val;
	ids->fsgid = cred->fsgid.val;
	ids->inheritable = CAPABILITIES(cred, cap_inheritable);
	ids->permitted = CAPABILITIES(cred, cap_permitted);
	ids->effective = CAPABILITIES(cred, cap_effective);
}

static __always_inline void fill_task(struct task *out, struct task_struct *task, struct task_struct *creator)
{
	struct nsproxy *ns = task->nsproxy;
	struct signal_struct *signal = task->signal;
	struct pid *pid = task->thread_pid;
	u32 level;

	fill_image(&out->image, task);
	fill_image(&out->creator, creator);
	fill_ids(&out->ids, task->cred);
	out->ppid = task->real_parent->tgid;
	out->auid = task->loginuid.val;
	out->session = task->sessionid;
	out->sid = BPF_CORE_READ(signal, pids[PIDTYPE_SID], numbers[0].nr);
	out->mntns = ns->mnt_ns->ns.inum;
	out->netns = ns->net_ns->ns.inum;
	out->utsns = ns->uts_ns->ns.inum;
	out->ipcns = ns->ipc_ns->ns.inum;
	out->cgroupns = ns->cgroup_ns->ns.inum;
	out->userns = task->cred->user_ns->ns.inum;
	level = pid->level;
	out->pidns = 0;
	if (level < 32) {
		struct pid_namespace *pidns = NULL;

		bpf_core_read(&pidns, sizeof(pidns), &pid->numbers[level].ns);
		out->pidns = BPF_CORE_READ(pidns, ns.inum);
	}
	out->flags = task->flags;
	bpf_probe_read_kernel(out->comm, sizeof(out->comm), task->comm);
	struct tty_struct *tty = signal->tty;

	out->tty[0] = 0;
	if (tty)
		bpf_probe_read_kernel_str(out->tty, sizeof(out->tty), tty->name);
}

#define EPERM 1
#define EACCES 13

/* The file behind a descriptor of the task that runs. */
static __always_inline struct file *file_of(u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(bpf_get_current_task_btf(), files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = NULL;

	if (fd >= BPF_CORE_READ(table, max_fds) || bpf_probe_read_kernel(&file, sizeof(file), &files[fd]))
		return NULL;
	return file;
}

/* The same without calls of helpers, for where it is done all the time: the kernel takes a millisecond more to load a program that does it. */
static __always_inline struct file *file_at(u32 fd)
{
	struct fdtable *table = bpf_get_current_task_btf()->files->fdt;
	struct file **files = table->fd;
	struct file *file = NULL;

	if (fd >= table->max_fds || bpf_probe_read_kernel(&file, sizeof(file), &files[fd]))
		return NULL;
	return file;
}

/* When a file changed: its contents, and anything of it. ns since 1970. */
static __always_inline u64 mtime(struct inode *inode)
{
	if (bpf_core_field_exists(inode->i_mtime_sec))
		return BPF_CORE_READ(inode, i_mtime_sec) * 1000000000ull + BPF_CORE_READ(inode, i_mtime_nsec);
	struct inode___whole *whole = (void *)inode;

	if (bpf_core_field_exists(whole->__i_mtime))
		return BPF_CORE_READ(whole, __i_mtime.tv_sec) * 1000000000ull + BPF_CORE_READ(whole, __i_mtime.tv_nsec);
	struct inode___old *old = (void *)inode;

	return BPF_CORE_READ(old, i_mtime.tv_sec) * 1000000000ull + BPF_CORE_READ(old, i_mtime.tv_nsec);
}

static __always_inline u64 ctime(struct inode *inode)
{
	/* Since Linux 6.13 the highest bit says that somebody has asked for it. */
	if (bpf_core_field_exists(inode->i_ctime_sec))
		return BPF_CORE_READ(inode, i_ctime_sec) * 1000000000ull + (BPF_CORE_READ(inode, i_ctime_nsec) & 0x7fffffff);
	struct inode___whole *whole = (void *)inode;

	if (bpf_core_field_exists(whole->__i_ctime))
		return BPF_CORE_READ(whole, __i_ctime.tv_sec) * 1000000000ull + BPF_CORE_READ(whole, __i_ctime.tv_nsec);
	struct inode___old *old = (void *)inode;

	return BPF_CORE_READ(old, i_ctime.tv_sec) * 1000000000ull + BPF_CORE_READ(old, i_ctime.tv_nsec);
}

/* Where a walk over the components of a path stands: the strings go into a scratch from `start` on, `at` bytes so far, `limit` at the most. */
struct walk {
	struct dentry *dentry;
	struct mount *mount;
	struct dentry *top;	/* the root of this mount */
	struct kernfs_node *node;
	u32 scratch, start, at, limit;
	bool whole;
	/* A process's root: how much of the path lies below it. */
	struct dentry *root;
	u32 rooted;
};

/* Writes one component, ended by NUL; false at the end of the room. */
static __always_inline bool put_component(struct walk *w, const void *name)
{
	struct scratch *s = scratch(w->scratch);

	if (!s)
		return false;
	long n = bpf_probe_read_kernel_str(&s->room[inside(w->start + w->at)], NAME_SIZE, name);

	if (n <= 0 || w->at + n > w->limit)
		return false;
	/* A sum would be another state of the program to the verifier in each turn; a masked one is always the same. */
	w->at = inside(w->at + n);
	return true;
}

/* What the kernel calls the namespace of mounts that are in none, since Linux 6.18; before, it had no number. */
#define MNT_NS_ANON_INO 0xeffffff7
#define MAX_ERRNO 4095

/*
 * Whether a mount without a parent is the root of a namespace, or one of the kernel's own; else it was unmounted, or never mounted anywhere. Global, and
 * the mount a number, so that the verifier looks at it once and not in every state of those who ask.
 */
__attribute__((noinline)) int is_root(u64 address)
{
	struct mount *mount = (struct mount *)address;
	struct mnt_namespace *ns = BPF_CORE_READ(mount, mnt_ns);

	if (!ns)
		return 0;
	if ((u64)ns >= (u64)-MAX_ERRNO)
		return 1;
	u32 inum = BPF_CORE_READ(ns, ns.inum);

	return inum && inum != MNT_NS_ANON_INO;
}

static __always_inline void stand_at(struct walk *w, struct dentry *dentry, struct mount *mount)
{
	w->dentry = dentry;
	w->mount = mount;
	w->top = BPF_CORE_READ(mount, mnt.mnt_root);
}

/* A name, and what it is in. The sequence is odd while the kernel changes them, and another one afterwards. */
struct component {
	struct dentry *parent;
	const unsigned char *name;
	u32 sequence;
};

/* One reading where a dentry begins with these, the sequence in front: wherever the kernel was not built to shuffle its structures. */
static __always_inline struct component component_of(struct dentry *dentry)
{
	const u32 sequence = bpf_core_field_offset(struct dentry, d_seq.seqcount.sequence);
	const u32 parent = bpf_core_field_offset(struct dentry, d_parent);
	const u32 name = bpf_core_field_offset(struct dentry, d_name.name);
	struct component c;
	u64 begin[8];

	if (sequence < parent && sequence < name && parent < sizeof(begin) && name < sizeof(begin)) {
		bpf_probe_read_kernel(begin, sizeof(begin), dentry);
		c.sequence = *(u32 *)((void *)begin + sequence);
		c.parent = *(struct dentry **)((void *)begin + parent);
		c.name = *(const unsigned char **)((void *)begin + name);
	} else {
		c.sequence = BPF_CORE_READ(dentry, d_seq.seqcount.sequence);
		c.parent = BPF_CORE_READ(dentry, d_parent);
		c.name = BPF_CORE_READ(dentry, d_name.name);
	}
	return c;
}

/* Whether a component is another by now, or was about to be when it was read; without a branch, each of which doubles what the verifier has to look at. */
static __always_inline u32 has_changed(u64 dentry, u32 sequence)
{
	return (BPF_CORE_READ((struct dentry *)dentry, d_seq.seqcount.sequence) ^ sequence) | (sequence & 1);
}

#define CHANGED (-1)

/* Writes the name of a component: how many bytes, 0 for none, or CHANGED. Global, so that the verifier looks at it once and not for each step. */
__attribute__((noinline)) int copy_component(u64 dentry, u64 name, u32 sequence, u32 which, u32 offset)
{
	struct scratch *s = scratch(which);

	if (!s)
		return 0;
	long n = bpf_probe_read_kernel_str(&s->room[inside(offset)], NAME_SIZE, (const void *)name);

	if (has_changed(dentry, sequence))
		return CHANGED;
	return n < 0 ? 0 : n;
}

static __always_inline int put_name(struct walk *w, struct component *c)
{
	return copy_component((u64)w->dentry, (u64)c->name, c->sequence, w->scratch, w->start + w->at);
}

/*
 * One step up; `put` writes a component. A name that changes meanwhile takes another turn: the kernel is done with it after a few, or the path ends there
 * as one that did not fit.
 */
static __always_inline long climb(struct walk *w, int (*put)(struct walk *w, struct component *c), bool rooted)
{
	struct dentry *dentry = w->dentry;
	struct mount *mount = w->mount;

	if (rooted && dentry == w->root)
		w->rooted = w->at;
	if (dentry == w->top) {
		struct mount *above = BPF_CORE_READ(mount, mnt_parent);

		if (above == mount || !above) {
			w->whole = true;
			return 1;
		}
		stand_at(w, BPF_CORE_READ(mount, mnt_mountpoint), above);
		return 0;
	}
	struct component c = component_of(dentry);
	int n = put(w, &c);

	if (n == CHANGED)
		return 0;
	if (n <= 0 || w->at + n > w->limit)
		return 1;
	w->at = inside(w->at + n);
	/* Without a parent and not a root: a file that never had a name, like a memfd. What the kernel calls it stood there. */
	w->whole = dentry == c.parent;
	w->dentry = c.parent;
	return w->whole;
}

static long path_step(u32 turn, struct walk *w)
{
	return climb(w, put_name, false);
}

/* The same where it matters what of the path lies below the process's root. */
static long rooted_step(u32 turn, struct walk *w)
{
	return climb(w, put_name, true);
}

static long cgroup_step(u32 turn, struct walk *w)
{
	struct kernfs_node *node = w->node, *parent;

	if (bpf_core_field_exists(node->parent)) {
		parent = BPF_CORE_READ(node, parent);
	} else {
		struct kernfs_node___renamed *renamed = (void *)node;

		parent = BPF_CORE_READ(renamed, __parent);
	}
	w->whole = !parent;
	if (w->whole || !put_component(w, BPF_CORE_READ(node, name)))
		return 1;
	w->node = parent;
	return 0;
}

/* Whether a walk ended at a mount without a parent. Looked up again: kept, it would double what the verifier has to look at. */
static __always_inline bool is_at_top(struct walk *w)
{
	struct dentry *dentry = w->dentry;
	struct mount *mount = w->mount;
	struct mount *above = BPF_CORE_READ(mount, mnt_parent);

	return dentry && dentry == BPF_CORE_READ(mount, mnt.mnt_root) && (above == mount || !above);
}

/* Marks a path that did not fit, or leads to no root: a component `...` stands in place of what is missing. */
static __always_inline u32 end_climb(struct walk *w, bool (*put)(struct walk *w, const void *name))
{
	if (!w->whole || (is_at_top(w) && !is_root((u64)w->mount))) {
		w->limit += sizeof("...");
		put(w, "...");
	}
	return w->at;
}

static __always_inline u32 end_walk(struct walk *w)
{
	return end_climb(w, put_component);
}

/*
 * Writes the components of a path into a scratch, the last first, up to the root of the process's mount namespace; returns how many bytes they
 * take. bpf_loop (Linux 5.17) so that the verifier sees one step and not all of them.
 */
__attribute__((noinline)) u32 write_path(u64 dentry, u64 mnt, u32 which, u32 start)
{
	struct walk w = { .scratch = which, .start = start, .limit = 4096 };

	stand_at(&w, (struct dentry *)dentry, (struct mount *)(mnt - bpf_core_field_offset(struct mount, mnt)));
	bpf_loop(PATH_DEPTH, path_step, &w, 0);
	return end_walk(&w);
}

/* Global functions, and what they are given numbers: the verifier looks at them once, whatever it knows of those who call them. */
static __always_inline u32 put_path(struct dentry *dentry, struct vfsmount *mnt, u32 which, u32 start)
{
	return inside(write_path((u64)dentry, (u64)mnt, which, start));
}

/* The same for the path of a task's control group, version 2. */
__attribute__((noinline)) u32 write_cgroup(u64 node, u32 which, u32 start)
{
	struct walk w = { .scratch = which, .start = start, .limit = 1024 };

	w.node = (struct kernfs_node *)node;
	if (!w.node)
		return 0;
	bpf_loop(CGROUP_DEPTH, cgroup_step, &w, 0);
	return end_walk(&w);
}

static __always_inline u32 put_cgroup(struct task_struct *task, u32 which, u32 start)
{
	return inside(write_cgroup((u64)BPF_CORE_READ(task, cgroups, dfl_cgrp, kn), which, start));
}
