/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's own names of what a call is about: a better rung below filenames.h, for kernels that let programs stand at their functions (fentry:
 * trampolines of ftrace, x86-64 since Linux 5.5, arm64 since 6.4).
 *
 * Hooks: the entry of the calls awaits a note; the security hooks on paths, which the kernel passes once it has found what the words mean and before it
 * does anything, write it; the exit of the call tells it. Where the kernel hands over no mount with a name (attributes, times), the mount is that to which
 * it has just asked to write. Nobody can change a note: it is the task's own, and gone with it. Not noted: what is refused before it is found, which keeps
 * the process's words; what the kernel does on its own, in another call or through io_uring, which awaits no note.
 */
#pragma once

#include "files.h"

/* Most names are short, and a note stays with its task: a long one has a place of its own. */
#define NOTE_MASK 0x1ff
#define LONG_NOTE_MASK 0x1fff

struct note {
	u32 awaited;
	u32 operation;
	u32 size;		/* 0: nothing was noted */
	u32 is_long;
	u64 mount;
	char room[sizeof(struct file_record) + NOTE_MASK + 1 + NAME_SIZE];
};

struct long_note {
	char room[sizeof(struct file_record) + LONG_NOTE_MASK + 1 + 4096];
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct note);
} notes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct long_note);
} long_notes SEC(".maps");

static __always_inline struct note *noted(void)
{
	return bpf_task_storage_get(&notes, bpf_get_current_task_btf(), 0, 0);
}

static __always_inline struct long_note *noted_long(void)
{
	return bpf_task_storage_get(&long_notes, bpf_get_current_task_btf(), 0, 0);
}

/* As `inside`, for notes. */
#define WITHIN(offset, mask)                                                                                           \
	({                                                                                                             \
		u32 masked = offset;                                                                                   \
		asm volatile("%0 &= %1" : "+r"(masked) : "i"(mask));                                                   \
		masked;                                                                                                \
	})

/* Which of the two a walk writes into, in place of a scratch. */
enum { NOTE_SHORT, NOTE_LONG };

static __always_inline bool put_noted(struct walk *w, const void *name)
{
	const u32 start = sizeof(struct file_record);
	long len = 0;

	if (w->scratch == NOTE_LONG) {
		struct long_note *n = noted_long();

		if (n)
			len = bpf_probe_read_kernel_str(&n->room[start + WITHIN(w->start + w->at, LONG_NOTE_MASK)],
							NAME_SIZE, name);
	} else {
		struct note *n = noted();

		if (n)
			len = bpf_probe_read_kernel_str(&n->room[start + WITHIN(w->start + w->at, NOTE_MASK)],
							NAME_SIZE, name);
	}
	if (len <= 0 || w->at + len > w->limit)
		return false;
	w->at = WITHIN(w->at + len, LONG_NOTE_MASK);
	return true;
}

/* `copy_component`, for notes. */
__attribute__((noinline)) int copy_noted(u64 dentry, u64 name, u32 sequence, u32 length, u32 offset)
{
	const u32 start = sizeof(struct file_record);
	long n = 0;

	if (length == NOTE_LONG) {
		struct long_note *note = noted_long();

		if (note)
			n = bpf_probe_read_kernel_str(&note->room[start + WITHIN(offset, LONG_NOTE_MASK)], NAME_SIZE,
						      (const void *)name);
	} else {
		struct note *note = noted();

		if (note)
			n = bpf_probe_read_kernel_str(&note->room[start + WITHIN(offset, NOTE_MASK)], NAME_SIZE,
						      (const void *)name);
	}
	if (has_changed(dentry, sequence))
		return CHANGED;
	return n < 0 ? 0 : n;
}

static __always_inline int put_noted_name(struct walk *w, struct component *c)
{
	return copy_noted((u64)w->dentry, (u64)c->name, c->sequence, w->scratch, w->start + w->at);
}

static long note_step(u32 turn, struct walk *w)
{
	return climb(w, put_noted_name, true);
}

/* What a hook was given: addresses of the kernel's. */
struct subject {
	u64 dentry, mount;
	u64 dentry2, mount2;	/* 0: there is no second */
	u64 text;
	u32 operation;
	u32 first;		/* what was noted before in this call is nearer to what was asked for */
};

/* Writes a path behind `at`; false if it does not fit. */
static __always_inline bool fill_path(struct walk *w, u64 dentry, u64 mount, u32 length, u32 at)
{
	*w = (struct walk){ .scratch = length, .start = at, .rooted = -1 };
	stand_at(w, (struct dentry *)dentry, mount_of((struct vfsmount *)mount));
	w->root = BPF_CORE_READ(bpf_get_current_task_btf(), fs, root.dentry);
	w->limit = length == NOTE_LONG ? PATH_LIMIT : NOTE_MASK - at;
	bpf_loop(PATH_DEPTH, note_step, w, 0);
	if (!w->whole && length == NOTE_SHORT)
		return false;
	end_climb(w, put_noted);
	return true;
}

/* Writes all of a record but what the call's exit knows; its size, or 0 if it does not fit. */
static __always_inline u32 fill(struct file_record *f, struct subject *s, u32 length)
{
	const u32 start = sizeof(struct file_record);
	struct dentry *dentry = (struct dentry *)s->dentry;
	struct inode *inode = BPF_CORE_READ(dentry, d_inode);
	struct walk w;
	u32 at;

	begin_file(f, bpf_get_current_task_btf(), s->operation, 0);
	if (inode) {
		fill_inode(f, inode);
		if (!BPF_CORE_READ(dentry, d_hash.pprev))
			f->flags |= FILE_DELETED;
	}
	if (!fill_path(&w, s->dentry, s->mount, length, 0))
		return 0;
	f->rooted = w.rooted;
	f->path_len = at = w.at;
	/* Not in a loop: Linux 6.1 takes the call within for the way back. */
	if (s->dentry2) {
		if (!fill_path(&w, s->dentry2, s->mount2, length, at))
			return 0;
		f->path2_len = w.at;
		at += w.at;
	}
	if (s->text) {
		long len;

		if (length == NOTE_LONG)
			len = bpf_probe_read_kernel_str(&f->data[WITHIN(at, LONG_NOTE_MASK)], 4096, (void *)s->text);
		else
			len = bpf_probe_read_kernel_str(&f->data[WITHIN(at, NOTE_MASK)], NAME_SIZE, (void *)s->text);
		if (len == NAME_SIZE && length == NOTE_SHORT)
			return 0;
		if (len > 0) {
			/* In front of the second path, which is not there. */
			f->name2_len = len;
			at += len;
		}
	}
	return start + at;
}

/* Global functions, so that the verifier looks at each once. */

/* Notes what the call of this task is about, if that is awaited; 1 if it does not fit. */
int take_note(struct subject *s)
{
	struct note *n = noted();

	if (!s || !n)
		return 0;
	if (!n->awaited || (s->first && n->size))
		return 0;
	n->operation = s->operation;
	n->is_long = 0;
	n->size = fill((struct file_record *)n->room, s, NOTE_SHORT);
	return n->size == 0;
}

/* The same for what does not fit. */
int take_long_note(struct subject *s)
{
	struct note *n = noted();
	struct long_note *l =
		bpf_task_storage_get(&long_notes, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!s || !n)
		return 0;
	if (!l)
		return 0;
	n->is_long = 1;
	n->size = fill((struct file_record *)l->room, s, NOTE_LONG);
	return 0;
}

/* The parts that only the exit knows. */
static __always_inline void complete(struct file_record *f, struct call *c, s32 fd)
{
	f->h = header(KIND_FILE);
	f->result = c->result;
	f->fd = fd;
	f->argument = c->argument;
	f->argument2 = c->argument2;
}

/* Tells what was noted in the call that ends; 0 if nothing was. `fd`: by which descriptor the call named the file, or -1. */
int tell_note(struct call *c, s32 fd)
{
	struct note *n = noted();

	if (!c || !n)
		return 0;
	bool awaited = n->awaited;
	u64 size = n->size;

	n->awaited = 0;
	if (!awaited || !size)
		return 0;
	/* unlinkat removes directories as well. */
	if (n->operation != c->operation && !(n->operation == FILE_RMDIR && c->operation == FILE_UNLINK))
		return 0;
	if (n->is_long) {
		struct long_note *l = noted_long();

		if (!l)
			return 0;
		/* What was on the stack meanwhile has no bound any more for the verifier of Linux 6.1, even if it is looked at again. */
		asm volatile("" : "+r"(size));
		if (size > sizeof(l->room))
			return 0;
		complete((struct file_record *)l->room, c, fd);
		give(l->room, size, CLASS_FILE);
		return 1;
	}
	if (size > sizeof(n->room))
		return 0;
	complete((struct file_record *)n->room, c, fd);
	give(n->room, size, CLASS_FILE);
	return 1;
}

/* The call failed in a way that nobody is told of. */
static __always_inline int forget_note(void)
{
	struct note *n = noted();

	if (n)
		n->awaited = 0;
	return 0;
}

ON_ENTRY
int on_naming(struct syscall_entry *ctx)
{
	struct note *n =
		bpf_task_storage_get(&notes, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!n)
		return 0;
	n->awaited = 1;
	n->size = 0;
	n->mount = 0;
	return 0;
}

static __always_inline int note(struct subject s)
{
	if (take_note(&s))
		take_long_note(&s);
	return 0;
}

static __always_inline int note_path(u32 operation, const struct path *path)
{
	return note((struct subject){
		.dentry = (u64)path->dentry,
		.mount = (u64)path->mnt,
		.operation = operation,
	});
}

/* A name in a directory, which may be about to come to be. */
static __always_inline int note_child(u32 operation, const struct path *directory, struct dentry *dentry, const char *text)
{
	return note((struct subject){
		.dentry = (u64)dentry,
		.mount = (u64)directory->mnt,
		.text = (u64)text,
		.operation = operation,
	});
}

/* A file system that lies upon another passes the hooks again for the one below: the first is what the process asked for. */
static __always_inline int note_dentry(u32 operation, struct dentry *dentry, const char *text)
{
	struct note *n = noted();

	if (!n)
		return 0;
	if (!n->mount)
		return 0;
	return note((struct subject){
		.dentry = (u64)dentry,
		.mount = n->mount,
		.text = (u64)text,
		.operation = operation,
		.first = 1,
	});
}

static __always_inline int note_mount(struct vfsmount *mnt)
{
	struct note *n = noted();

	if (!n)
		return 0;
	if (n->awaited && !n->mount)
		n->mount = (u64)mnt;
	return 0;
}

#define ON_FUNCTION(name) SEC("fentry/" #name)

ON_FUNCTION(security_path_unlink)
int BPF_PROG(on_path_unlink, const struct path *directory, struct dentry *dentry)
{
	return note_child(FILE_UNLINK, directory, dentry, NULL);
}

ON_FUNCTION(security_path_rmdir)
int BPF_PROG(on_path_rmdir, const struct path *directory, struct dentry *dentry)
{
	return note_child(FILE_RMDIR, directory, dentry, NULL);
}

ON_FUNCTION(security_path_mkdir)
int BPF_PROG(on_path_mkdir, const struct path *directory, struct dentry *dentry)
{
	return note_child(FILE_MKDIR, directory, dentry, NULL);
}

ON_FUNCTION(security_path_mknod)
int BPF_PROG(on_path_mknod, const struct path *directory, struct dentry *dentry)
{
	return note_child(FILE_MKNOD, directory, dentry, NULL);
}

ON_FUNCTION(security_path_symlink)
int BPF_PROG(on_path_symlink, const struct path *directory, struct dentry *dentry, const char *text)
{
	return note_child(FILE_SYMLINK, directory, dentry, text);
}

/* Both names of a link are in one mount: the kernel has made sure of that. */
ON_FUNCTION(security_path_link)
int BPF_PROG(on_path_link, struct dentry *old, const struct path *directory, struct dentry *dentry)
{
	return note((struct subject){
		.dentry = (u64)old,
		.mount = (u64)directory->mnt,
		.dentry2 = (u64)dentry,
		.mount2 = (u64)directory->mnt,
		.operation = FILE_LINK,
	});
}

ON_FUNCTION(security_path_rename)
int BPF_PROG(on_path_rename, const struct path *old_directory, struct dentry *old, const struct path *directory,
	     struct dentry *dentry)
{
	return note((struct subject){
		.dentry = (u64)old,
		.mount = (u64)old_directory->mnt,
		.dentry2 = (u64)dentry,
		.mount2 = (u64)directory->mnt,
		.operation = FILE_RENAME,
	});
}

ON_FUNCTION(security_path_chmod)
int BPF_PROG(on_path_chmod, const struct path *path)
{
	return note_path(FILE_CHMOD, path);
}

ON_FUNCTION(security_path_chown)
int BPF_PROG(on_path_chown, const struct path *path)
{
	return note_path(FILE_CHOWN, path);
}

ON_FUNCTION(security_path_truncate)
int BPF_PROG(on_path_truncate, const struct path *path)
{
	return note_path(FILE_TRUNCATE, path);
}

/* Of ftruncate, since Linux 6.2. */
ON_FUNCTION(security_file_truncate)
int BPF_PROG(on_descriptor_truncate, struct file *file)
{
	return note_path(FILE_TRUNCATE, &file->f_path);
}

ON_FUNCTION(security_sb_mount)
int BPF_PROG(on_path_mount, const char *source, const struct path *path)
{
	return note((struct subject){
		.dentry = (u64)path->dentry,
		.mount = (u64)path->mnt,
		.text = (u64)source,
		.operation = FILE_MOUNT,
	});
}

ON_FUNCTION(security_move_mount)
int BPF_PROG(on_path_move_mount, const struct path *from, const struct path *to)
{
	return note((struct subject){
		.dentry = (u64)to->dentry,
		.mount = (u64)to->mnt,
		.dentry2 = (u64)from->dentry,
		.mount2 = (u64)from->mnt,
		.operation = FILE_MOUNT,
	});
}

ON_FUNCTION(security_sb_umount)
int BPF_PROG(on_path_umount, struct vfsmount *mnt)
{
	return note((struct subject){
		.dentry = (u64)mnt->mnt_root,
		.mount = (u64)mnt,
		.operation = FILE_UMOUNT,
	});
}

ON_FUNCTION(mnt_want_write)
int BPF_PROG(on_want_write, struct vfsmount *mnt)
{
	return note_mount(mnt);
}

ON_FUNCTION(mnt_want_write_file)
int BPF_PROG(on_want_write_file, struct file *file)
{
	return note_mount(file->f_path.mnt);
}

ON_FUNCTION(security_inode_setxattr)
int BPF_PROG(on_inode_setxattr, void *idmap, struct dentry *dentry, const char *name)
{
	return note_dentry(FILE_XATTR, dentry, name);
}

ON_FUNCTION(security_inode_removexattr)
int BPF_PROG(on_inode_removexattr, void *idmap, struct dentry *dentry, const char *name)
{
	return note_dentry(FILE_XATTR, dentry, name);
}

/* Access control lists are no attribute any more since Linux 6.2. */
ON_FUNCTION(security_inode_set_acl)
int BPF_PROG(on_inode_set_acl, void *idmap, struct dentry *dentry, const char *name)
{
	return note_dentry(FILE_XATTR, dentry, name);
}

ON_FUNCTION(security_inode_remove_acl)
int BPF_PROG(on_inode_remove_acl, void *idmap, struct dentry *dentry, const char *name)
{
	return note_dentry(FILE_XATTR, dentry, name);
}

/* Of all that it changes, only times have no hook with a path. */
ON_FUNCTION(notify_change)
int BPF_PROG(on_notify_change, void *idmap, struct dentry *dentry)
{
	return note_dentry(FILE_UTIMES, dentry, NULL);
}
