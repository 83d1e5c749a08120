/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Files that are opened, and closed again: one record when an access begins, one when it ends, and nothing for reading and writing in between.
 *
 * Hooks: system calls (syscalls.h), and the exit of processes. The kernel's own file is at hand, so that path, inode and mode are what the
 * kernel has opened, however the call named it. What goes through io_uring is in uring.h. Not seen: the moment at which a
 * mapping or a copy of a descriptor in another process gives up the last reference: the access ends with the process that began it.
 */
#pragma once

#include "contents.h"

#define S_IFBLK 0060000
#define S_IFDIR 0040000
#define FMODE_READ 0x1
#define FMODE_WRITE 0x2
#define FMODE_PATH 0x4000
#define FMODE_CREATED 0x100000
#define O_WRONLY 01
#define O_TRUNC 01000
#define O_CLOEXEC 02000000
#define ETXTBSY 26
#define EROFS 30
#define PROC_SUPER_MAGIC 0x9fa0

#define AT_FDCWD (-100)
/* Repeated within this time, it is the same access; and while it goes on, it is told of this often. */
#define AGAIN 1000000000ull
#define TELL_AGAIN 500000000ull

/* The oldest goes when it is full: that access ends with its process. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 15);
	__type(key, struct access_key);
	__type(value, struct access);
} accesses SEC(".maps");

/* What was there when the file was opened; by the address of the kernel's file, which lives for as long as someone has it open. */
struct opened {
	struct access_key key;
	u64 inode;		/* its address: that of a file is given to another as soon as it is free */
	u64 size;
	u64 mtime;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 15);
	__type(key, u64);
	__type(value, struct opened);
} opened SEC(".maps");

/* How many refer to a file. */
static __always_inline long references(struct file *file)
{
	if (bpf_core_field_exists(file->f_ref)) {
		long others = READ(file, f_ref.refcnt.counter);

		return others < 0 ? 0 : others + 1;
	}
	struct file___counted *counted = (void *)file;

	return READ(counted, f_count.counter);
}

static __always_inline bool is_last(struct file *file)
{
	return references(file) == 1;
}

/* Whether a file of /proc shows what another process keeps to itself: its memory, its environment, its descriptors. */
static __always_inline bool pries(struct task_struct *task, struct file *file, struct inode *inode)
{
	struct proc_inode *proc = (void *)inode - bpf_core_field_offset(struct proc_inode, vfs_inode);
	struct pid *owner = READ(proc, pid);
	const unsigned char *at = READ(file, f_path.dentry, d_name.name);
	char name[8] = {};

	if (!owner || owner == READ(task, group_leader, thread_pid) || owner == READ(task, thread_pid))
		return false;
	bpf_probe_read_kernel_str(name, sizeof(name), at);
	u64 word = *(u64 *)name;

	return word == *(u64 *)"mem\0\0\0\0" || word == *(u64 *)"environ" || word == *(u64 *)"fd\0\0\0\0\0" ||
	       word == *(u64 *)"fdinfo\0";
}

/* The file systems that are windows into the kernel: only what is written there is told. */
static __always_inline bool is_window(u64 magic)
{
	switch (magic) {
	case PROC_SUPER_MAGIC:
	case 0x62656572: /* sysfs */
	case 0x63677270: /* cgroup2 */
	case 0x27e0eb: /* cgroup */
	case 0x64626720: /* debugfs */
	case 0x74726163: /* tracefs */
	case 0xcafe4a11: /* bpf */
	case 0x73636673: /* securityfs */
	case 0xf97cff8c: /* selinuxfs */
	case 0x1cd1: /* devpts */
	case 0x6e736673: /* nsfs */
	case 0x50494446: /* pidfs */
	case 0x50495045: /* pipefs */
	case 0x534f434b: /* sockfs */
	case 0x09041934: /* anonymous inodes */
	case 0x19800202: /* message queues */
	case 0xde5e81e4: /* efivarfs */
	case 0x62656570: /* configfs */
		return true;
	}
	return false;
}

/* Whether policy wants it told that this file was opened, or mapped for execution. */
static __always_inline bool is_told(struct task_struct *task, struct file *file, struct inode *inode, u32 mode, u64 now)
{
	u32 type = READ(inode, i_mode) & S_IFMT;
	u64 magic = READ(inode, i_sb, s_magic);

	if (is_window(magic)) {
		if (type == S_IFREG && mode & FMODE_WRITE)
			return true;
		return magic == PROC_SUPER_MAGIC && pries(task, file, inode);
	}
	if (type != S_IFREG && type != S_IFBLK)
		return false;
	return mode & (FMODE_WRITE | FMODE_CREATED) || !is_quiet(file, now);
}

static __always_inline void fill_inode(struct file_record *f, struct inode *inode)
{
	f->inode = READ(inode, i_ino);
	f->dev = READ(inode, i_sb, s_dev);
	f->size = READ(inode, i_size);
	f->owner = READ(inode, i_uid.val);
	f->mode = READ(inode, i_mode);
}

/* Writes the path of a file behind `start`, and how much of it the process sees. */
static __always_inline u32 put_file_path(struct file_record *f, struct path *path, struct task_struct *task, u32 start)
{
	struct walk w = { .scratch = SCRATCH_FILE, .start = start, .limit = PATH_LIMIT, .rooted = -1 };

	stand_at(&w, READ(path, dentry), mount_of(READ(path, mnt)));
	w.root = READ(task, fs, root.dentry);
	bpf_loop(PATH_DEPTH, rooted_step, &w, 0);
	u32 len = end_walk(&w);

	f->rooted = w.rooted;
	return len;
}

/* The parts of a record that every operation has. */
static __always_inline void begin_file(struct file_record *f, struct task_struct *task, u32 operation, s32 result)
{
	f->h = header(KIND_FILE);
	fill_actor(&f->actor, task);
	f->operation = operation;
	f->result = result;
	f->mntns = READ(task, nsproxy, mnt_ns, ns.inum);
	f->inode = f->size = 0;
	f->dev = f->owner = f->mode = f->access = f->flags = f->argument = f->argument2 = 0;
	f->fd = -1;
	f->rooted = -1;
	f->name_len = f->path_len = f->name2_len = f->path2_len = 0;
	f->which = f->pad = 0;
	f->request = 0;
}

static __always_inline bool is_denial(long ret)
{
	return ret == -EPERM || ret == -EACCES || ret == -EROFS || ret == -ETXTBSY;
}

/* Global functions, so that the verifier looks at each once. */

/* Tells of something that was done to a file which the kernel has at hand. */
int tell_file(struct call *c)
{
	const u32 start = sizeof(struct file_record);
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s = scratch(SCRATCH_FILE);

	if (!c || !s)
		return 0;
	struct file_record *f = (struct file_record *)s;
	struct file *file = (struct file *)c->file;
	struct inode *inode = READ(file, f_inode);

	begin_file(f, task, c->operation, c->result);
	fill_inode(f, inode);
	f->access = c->access;
	f->fd = c->fd;
	f->flags = c->flags;
	f->argument = c->argument;
	f->argument2 = c->argument2;
	f->which = c->which;
	f->request = c->request;
	if (!READ(file, f_path.dentry, d_hash.pprev) || !READ(inode, i_nlink))
		f->flags |= FILE_DELETED;
	f->path_len = put_file_path(f, &file->f_path, task, start);
	u32 at = f->path_len;

	if (c->name2) {
		long n = bpf_probe_read_user_str(&((char *)s)[inside(start + at)], 4096, (void *)c->name2);

		if (n > 0) {
			f->name2_len = n;
			at += n;
		}
	}
	give(s, start + inside(at), CLASS_FILE);
	return 0;
}

/* Tells of something that was done by name: the name as the process gave it, and the directory that it starts from. */
int tell_name(struct call *c)
{
	const u32 start = sizeof(struct file_record);
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s = scratch(SCRATCH_FILE);

	if (!c || !s)
		return 0;
	struct file_record *f = (struct file_record *)s;

	begin_file(f, task, c->operation, c->result);
	f->access = c->access;
	f->flags = c->flags;
	f->argument = c->argument;
	f->argument2 = c->argument2;
	const struct cred *creds = (const struct cred *)c->creds;

	f->request = c->request;
	if (c->request)
		f->fd = c->fd;
	if (creds)
		f->actor.euid = READ(creds, euid.val);
	u32 at = 0;

	for (int i = 0; i < 2; i++) {
		u64 name = i ? c->name2 : c->name;
		s32 dfd = i ? c->dfd2 : c->dfd;
		char first = 0;
		long n = 0;

		if (i && !name)
			break;
		if (name && c->request) {
			bpf_probe_read_kernel(&first, 1, (void *)name);
			n = bpf_probe_read_kernel_str(&((char *)s)[inside(start + at)], 4096, (void *)name);
		} else if (name) {
			bpf_probe_read_user(&first, 1, (void *)name);
			n = bpf_probe_read_user_str(&((char *)s)[inside(start + at)], 4096, (void *)name);
		}
		if (n < 0)
			n = 0;
		if (name && !n && (i == 0 || !c->text))
			f->flags |= FILE_UNREAD;
		at += n;
		u32 len = 0, rooted = f->rooted;

		if (i == 0 || !c->text) {
			struct fs_struct *fs = READ(task, fs);
			struct path *from = &fs->pwd;

			if (first == '/') {
				from = &fs->root;
			} else if (dfd != AT_FDCWD) {
				struct file *directory = file_of(dfd);

				from = directory ? &directory->f_path : NULL;
			}
			if (from)
				len = put_file_path(f, from, task, start + at);
		}
		at += len;
		if (i == 0) {
			f->name_len = n;
			f->path_len = len;
		} else {
			f->rooted = rooted;
			f->name2_len = n;
			f->path2_len = len;
		}
	}
	give(s, start + inside(at), CLASS_FILE);
	return 0;
}

/* An empty record, not on the stack, which is small. */
static __always_inline struct file_end_record *end_record(void)
{
	struct file_end_record *r = (struct file_end_record *)scratch(SCRATCH_END);

	if (r)
		__builtin_memset(r, 0, sizeof(*r));
	return r;
}

/* What a file was when an access to it ended. */
struct ending {
	u64 size, position, mtime, ctime;
	bool modified;
};

static __always_inline void tell_end(struct file_end_record *r, struct access *a, struct ending *e)
{
	if (!a) {
		r->access = (struct access){ .last = r->h.at, .size = e->size, .position = e->position, .modified = e->modified };
		r->access.mtime = e->mtime;
		r->access.ctime = e->ctime;
		give(r, sizeof(*r), CLASS_FILE);
		return;
	}
	__sync_fetch_and_add(&a->open, -1);
	a->last = r->h.at;
	a->size = e->size;
	if (e->position > a->position)
		a->position = e->position;
	if (e->modified) {
		a->modified = 1;
		a->mtime = e->mtime;
		a->ctime = e->ctime;
	}
	if ((s32)a->open > 0 || (a->opens > 1 && r->h.at - a->told < TELL_AGAIN))
		return;
	a->told = r->h.at;
	a->again = 0;
	r->access = *a;
	give(r, sizeof(*r), CLASS_FILE);
}

/* An access to a file that is gone: something else has its address by now, and its end was not seen. */
static __always_inline void forget_access(u64 address)
{
	struct opened *o = bpf_map_lookup_elem(&opened, &address);
	struct file_end_record *r = end_record();

	if (!o)
		return;
	if (!r)
		return;
	struct ending e = { .size = o->size };

	r->h = header(KIND_FILE_END);
	r->h.pad = END_UNSEEN;
	r->key = o->key;
	bpf_map_delete_elem(&opened, &address);
	tell_end(r, bpf_map_lookup_elem(&accesses, &r->key), &e);
}

/* A function of its own, with room of its own on the stack, as those in contents.h. */
__attribute__((noinline)) int finish_access(u64 address, u64 of, u32 exits)
{
	struct file *file = (struct file *)of;
	struct opened *o = bpf_map_lookup_elem(&opened, &address);
	struct file_end_record *r = end_record();

	if (!o)
		return 0;
	if (!r)
		return 0;
	struct inode *inode = READ(file, f_inode);

	if ((u64)inode != o->inode) {
		forget_access(address);
		return 0;
	}
	struct ending e = { .size = READ(inode, i_size), .position = READ(file, f_pos) };

	r->h = header(KIND_FILE_END);
	r->h.pad = exits ? END_EXIT : 0;
	r->key = o->key;
	e.mtime = mtime(inode);
	e.ctime = ctime(inode);
	e.modified = r->key.access & ACCESS_WRITE &&
		     (e.size != o->size || e.mtime != o->mtime || (e.position && !(r->key.access & ACCESS_READ)));
	bpf_map_delete_elem(&opened, &address);
	struct access *a = bpf_map_lookup_elem(&accesses, &r->key);

	if (e.modified && (!a || r->h.at - a->content >= TELL_AGAIN)) {
		struct content_record *c = (struct content_record *)scratch(SCRATCH_FILE);

		if (a)
			a->content = r->h.at;
		if (!c)
			return 0;
		c->key = r->key;
		c->size = e.size;
		c->mtime = e.mtime;
		c->ctime = e.ctime;
		tell_content(address);
	}
	tell_end(r, a, &e);
	return 0;
}

static __always_inline void end_access(u64 address, struct file *file, bool exits)
{
	finish_access(address, (u64)file, exits);
}

/* Whether an open at this instant goes on with an access that is known. */
static __always_inline bool is_same(struct access *a, u64 now)
{
	return (s32)a->open > 0 || now - a->last < AGAIN;
}

/* Counts it, and says once that more is to be asked for. */
static __always_inline void again(struct access *a, struct access_key *key, u64 now)
{
	struct file_end_record *r;

	__sync_fetch_and_add(&a->opens, 1);
	__sync_fetch_and_add(&a->open, 1);
	a->last = now;
	if (a->again)
		return;
	a->again = 1;
	r = end_record();
	if (!r)
		return;
	r->h = header(KIND_FILE_AGAIN);
	r->key = *key;
	give(r, sizeof(*r), CLASS_FILE);
}

/* A file was opened of which policy wants to know: what is to be told of it is left in the call; false for nothing. */
static __always_inline bool begins(struct call *c, struct file *file, struct inode *inode, u32 mode, u32 flags, u64 now)
{
	u64 address = (u64)file;
	struct opened o = {};

	c->access = c->flags = 0;
	if (mode & FMODE_READ)
		c->access |= ACCESS_READ;
	if (mode & FMODE_WRITE)
		c->access |= ACCESS_WRITE;
	if (mode & FMODE_CREATED)
		c->flags |= FILE_CREATED;
	if (flags & O_TRUNC)
		c->flags |= FILE_TRUNCATED;
	if (flags & O_CLOEXEC)
		c->flags |= FILE_CLOEXEC;
	fill_image(&o.key.image, bpf_get_current_task_btf());
	o.key.inode = READ(inode, i_ino);
	o.key.dev = READ(inode, i_sb, s_dev);
	/* Numbers of inodes are used again at once, and snapshots share them: there the kernel has another inode at another address. */
	o.key.which = (READ(inode, i_generation) * 31 + READ(file, f_path.dentry, d_name.hash)) * 31 +
		      (u32)((u64)inode >> 6);
	/* A file that was made or emptied is not the same access as one that is only opened again. */
	o.key.access = c->access | (c->flags & (FILE_CREATED | FILE_TRUNCATED)) << 8;
	o.inode = (u64)inode;
	o.size = mode & FMODE_CREATED ? 0 : READ(inode, i_size);
	o.mtime = mtime(inode);
	/* Something else had this address, and its end was not seen. */
	forget_access(address);
	bpf_map_update_elem(&opened, &address, &o, BPF_ANY);

	/* In this order, so that the verifier of Linux 6.1 sees that the pointer is none. */
	struct access *a = mode & FMODE_CREATED ? NULL : bpf_map_lookup_elem(&accesses, &o.key);

	if (a && is_same(a, now)) {
		again(a, &o.key, now);
		return false;
	}
	struct access fresh = { .last = now, .opens = 1, .open = 1 };

	bpf_map_update_elem(&accesses, &o.key, &fresh, BPF_ANY);
	c->file = address;
	c->which = o.key.which;
	return true;
}

/* The same of any file, by the call's descriptor. */
static __always_inline bool has_opened(struct call *c, u32 flags)
{
	struct file *file = file_of(c->fd);

	if (!file)
		return false;
	u32 mode = READ(file, f_mode);
	struct inode *inode = READ(file, f_inode);
	u64 now = bpf_ktime_get_boot_ns();

	if (mode & FMODE_PATH || !inode || !is_told(bpf_get_current_task_btf(), file, inode, mode, now))
		return false;
	return begins(c, file, inode, mode, flags, now);
}

/* A call that opens a file, with its name and its flags. */
#define ON_OPEN(call_name, dfd_, name_, flags_)                                                                        \
	ON_EXIT                                                                                                        \
	int on_##call_name(struct syscall_exit *ctx)                                                                   \
	{                                                                                                              \
		struct pt_regs *regs = registers();                                                                    \
		struct call *c = ctx->ret >= 0 || is_denial(ctx->ret) ? stage(FILE_OPEN, ctx->ret) : NULL;             \
                                                                                                                       \
		if (!c)                                                                                                \
			return 0;                                                                                      \
		c->dfd = dfd_;                                                                                         \
		c->name = name_;                                                                                       \
		c->flags = flags_;                                                                                     \
		c->fd = ctx->ret;                                                                                      \
		return go_on(ctx, NEXT_OPENED);                                                                        \
	}

ON_OPEN(open, AT_FDCWD, FIRST(regs), SECOND(regs))
ON_OPEN(creat, AT_FDCWD, FIRST(regs), O_TRUNC | O_WRONLY)
ON_OPEN(openat, FIRST(regs), SECOND(regs), THIRD(regs))
ON_OPEN(openat2, FIRST(regs), SECOND(regs), first_word(THIRD(regs)))
ON_OPEN(open_by_handle, FIRST(regs), 0, THIRD(regs))

/* What the flags of an open ask for. */
static __always_inline u32 access_of(u64 flags)
{
	return (flags & 3) == 0 ? ACCESS_READ : (flags & 3) == 1 ? ACCESS_WRITE : ACCESS_READ | ACCESS_WRITE;
}

ON_EXIT
int next_opened(struct syscall_exit *ctx)
{
	struct call *c = staged();

	if (!c)
		return 0;
	u32 flags = c->flags;

	c->flags = 0;
	if (c->result) {
		c->access = access_of(flags);
		return go_on(ctx, NEXT_NAME);
	}
	return has_opened(c, flags) ? go_on(ctx, NEXT_FILE) : 0;
}

/* A descriptor is about to be closed. */
static __always_inline void closing(u32 fd)
{
	struct file *file = file_of(fd);
	u64 address = (u64)file;

	/* Most are not told of: asked first, because it is the cheaper question. */
	if (file && bpf_map_lookup_elem(&opened, &address) && is_last(file))
		end_access(address, file, false);
}

ON_ENTRY
int on_close(struct syscall_entry *ctx)
{
	closing(FIRST(registers()));
	return 0;
}

ON_ENTRY
int on_dup(struct syscall_entry *ctx)
{
	struct pt_regs *regs = registers();
	u32 fd = SECOND(regs);

	if (FIRST(regs) != fd)
		closing(fd);
	return 0;
}

#define F_SETFD 2
#define FD_CLOEXEC 1

ON_EXIT
int on_fcntl(struct syscall_exit *ctx)
{
	struct pt_regs *regs = registers();

	if (ctx->ret || SECOND(regs) != F_SETFD)
		return 0;
	u64 address = (u64)file_of(FIRST(regs));
	struct opened *o = bpf_map_lookup_elem(&opened, &address);
	struct file_end_record r = {};

	if (!o)
		return 0;
	r.h = header(KIND_FILE_CLOEXEC);
	r.h.pad = THIRD(regs) & FD_CLOEXEC;
	r.key = o->key;
	give(&r, sizeof(r), CLASS_FILE);
	return 0;
}

/* Not zero as one, without a branch: each would double what the verifier has to look at. */
static __always_inline u32 is_some(u64 word)
{
	return (word | -word) >> 63;
}

/* The number of the lowest bit that is set. */
static __always_inline u32 lowest_bit(u64 word)
{
	word &= -word;
	return is_some(word & 0xaaaaaaaaaaaaaaaaull) | is_some(word & 0xccccccccccccccccull) << 1 |
	       is_some(word & 0xf0f0f0f0f0f0f0f0ull) << 2 | is_some(word & 0xff00ff00ff00ff00ull) << 3 |
	       is_some(word & 0xffff0000ffff0000ull) << 4 | is_some(word & 0xffffffff00000000ull) << 5;
}

/* Descriptors that are closed together: one word of the table after the other, and in each the descriptors that are open. */
struct sweep {
	unsigned long *open;
	u64 word;		/* those that are left of the present word */
	u32 base;		/* its first descriptor */
	u32 first, last;
	bool exits;
};

static long sweep_one(u32 turn, struct sweep *w)
{
	if (!w->word) {
		if (turn)
			w->base += 64;
		if (w->base > w->last)
			return 1;
		if (bpf_probe_read_kernel(&w->word, sizeof(w->word), &w->open[w->base / 64]))
			w->word = 0;
		return 0;
	}
	u32 fd = w->base + lowest_bit(w->word);

	w->word &= w->word - 1;
	if (fd < w->first || fd > w->last)
		return 0;
	struct file *file = file_of(fd);
	u64 address = (u64)file;

	if (!file)
		return 0;
	struct opened *o = bpf_map_lookup_elem(&opened, &address);

	if (o && (is_last(file) || (w->exits && o->key.image.pid == (u32)bpf_get_current_task_btf()->tgid)))
		end_access(address, file, w->exits);
	return 0;
}

static __always_inline void sweep(struct task_struct *task, u32 first, u32 last, bool exits)
{
	struct fdtable *table = READ(task, files, fdt);
	u32 max = READ(table, max_fds);
	struct sweep w = { .base = first & ~63u, .first = first, .last = last < max ? last : max - 1, .exits = exits };

	w.open = READ(table, open_fds);
	if (!max || first > w.last)
		return;
	/*
	 * Read here already, so that the verifier knows nothing of it: that of Linux 6.1 follows the function for the first turn alone, and takes away what a
	 * word of 0 would not reach in it, which is all that ends an access.
	 */
	bpf_probe_read_kernel(&w.word, sizeof(w.word), &w.open[w.base / 64]);
	/* A turn for each descriptor and for each word. */
	bpf_loop((w.last - w.base) / 64 * 65 + 66, sweep_one, &w, 0);
}

#define CLOSE_RANGE_CLOEXEC 4

ON_ENTRY
int on_close_range(struct syscall_entry *ctx)
{
	struct pt_regs *regs = registers();

	if (!(THIRD(regs) & CLOSE_RANGE_CLOEXEC))
		sweep(bpf_get_current_task_btf(), FIRST(regs), SECOND(regs), false);
	return 0;
}

/* Since Linux 6.16 a process that exits still has its descriptors here; before, the recorder ends what it had open by itself. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit_files, struct task_struct *task)
{
	struct files_struct *files = task->files;

	if (files && files->count.counter == 1)
		sweep(task, 0, -1, true);
	return 0;
}

#define PROT_EXEC 4
#define MAP_ANONYMOUS 0x20

static __always_inline int mapped(struct syscall_exit *ctx, u32 protection, u32 flags, u32 fd)
{
	long ret = ctx->ret;

	if (!(protection & PROT_EXEC) || flags & MAP_ANONYMOUS)
		return 0;
	bool failed = ret < 0 && ret > -4096;

	if (failed && !is_denial(ret))
		return 0;
	struct task_struct *task = bpf_get_current_task_btf();
	struct file *file = file_of(fd);
	struct inode *inode = file ? READ(file, f_inode) : NULL;

	if (!inode || !is_told(task, file, inode, FMODE_READ, bpf_ktime_get_boot_ns()))
		return 0;
	struct call *c = stage(FILE_MAP, failed ? ret : 0);

	if (!c)
		return 0;
	c->fd = fd;
	c->file = (u64)file;
	c->argument = protection;
	c->access = ACCESS_READ;
	return go_on(ctx, NEXT_FILE);
}

ON_EXIT
int on_mmap(struct syscall_exit *ctx)
{
	struct pt_regs *regs = registers();

	return mapped(ctx, THIRD(regs), FOURTH(regs), FIFTH(regs));
}

/* Of 32-bit programs alone, with the arguments in memory. */
ON_EXIT
int on_old_mmap(struct syscall_exit *ctx)
{
	struct {
		u32 address, length, protection, flags, fd, offset;
	} a = {};

	if (bpf_probe_read_user(&a, sizeof(a), (void *)FIRST(registers())))
		return 0;
	return mapped(ctx, a.protection, a.flags, a.fd);
}
