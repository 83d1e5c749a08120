/* SPDX-License-Identifier: GPL-2.0 */
/* Places of which policy says something. By inode: a name proves nothing in another mount namespace. The recorder fills them in. */
#pragma once

#include "task.h"

#define EBADF 9

/*
 * Directories, and files, that everybody reads: reads of what is in them are not told. By the address of the kernel's inode, which the recorder holds
 * for as long as it stands here: numbers of inodes are used again, the subvolumes and snapshots of a file system share them, and what is silent
 * must not be another directory than was meant.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, u64);
	__type(value, u8);
} quiet SEC(".maps");

/* What the recorder asks for: whether reads below the file behind this descriptor of its own are told. */
struct silence {
	u32 fd;
	u32 told;
};

/* Run by the recorder itself (BPF_PROG_TYPE_SYSCALL, Linux 5.14), so that the kernel looks up the inode, and no number has to stand for it. */
SEC("syscall")
int be_quiet(struct silence *silence)
{
	struct file *file = file_of(silence->fd);
	u64 inode = file ? (u64)READ(file, f_path.dentry, d_inode) : 0;
	u8 yes = 1;

	if (!inode)
		return -EBADF;
	return silence->told ? bpf_map_delete_elem(&quiet, &inode) : bpf_map_update_elem(&quiet, &inode, &yes, BPF_ANY);
}

/* Directories whose files are digested: one more than the number of the place. By device and inode: at worst, a file is read that need not be. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct place);
	__type(value, u32);
} places SEC(".maps");

/* What is looked for: a quiet place, or one whose files are digested. */
enum saying { QUIET, DIGESTED };

struct ascent {
	struct dentry *dentry;
	struct mount *mount;
	enum saying which;
	u32 found;
};

/* One step up from a file, until a place that is looked for: `found` is what is said of it. */
static long ascend(u32 turn, struct ascent *a)
{
	struct dentry *dentry = a->dentry, *parent = READ(dentry, d_parent);
	struct mount *mount = a->mount;
	struct inode *inode = READ(dentry, d_inode);

	if (a->which == QUIET) {
		u64 address = (u64)inode;

		a->found = bpf_map_lookup_elem(&quiet, &address) != NULL;
	} else {
		struct place place = { .inode = READ(inode, i_ino), .dev = READ(inode, i_sb, s_dev) };
		u32 *said = bpf_map_lookup_elem(&places, &place);

		a->found = said ? *said : 0;
	}
	if (a->found)
		return 1;
	if (dentry == READ(mount, mnt.mnt_root)) {
		struct mount *above = READ(mount, mnt_parent);

		if (above == mount || !above)
			return 1;
		a->dentry = READ(mount, mnt_mountpoint);
		a->mount = above;
		return 0;
	}
	if (dentry == parent)
		return 1;
	a->dentry = parent;
	return 0;
}

static __always_inline struct mount *mount_of(struct vfsmount *mnt)
{
	return (struct mount *)((void *)mnt - bpf_core_field_offset(struct mount, mnt));
}

/* What was found out about a directory as it is seen through a mount: going up costs more than all the rest. It holds for a second. */
struct directory {
	u64 dentry, inode, mount;
	u64 which;
};

struct verdict {
	u64 at;
	u64 found;
};

#define VERDICT_HOLDS 1000000000ull

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct directory);
	__type(value, struct verdict);
} verdicts SEC(".maps");

/* What is said of the place that a file is below, or of the file itself. With room of its own on the stack: that of one program is small. */
__attribute__((noinline)) u32 said_of_file(u64 address, u32 which, u64 now)
{
	struct file *file = (struct file *)address;
	struct dentry *dentry = READ(file, f_path.dentry), *parent = READ(dentry, d_parent);
	struct mount *mount = mount_of(READ(file, f_path.mnt));
	struct directory directory = { (u64)parent, (u64)READ(parent, d_inode), (u64)mount, which };
	struct ascent a = { .dentry = dentry, .mount = mount, .which = which };

	/* The file itself may be a place, or be mounted by itself. */
	if (ascend(0, &a))
		return a.found;
	if (a.dentry != parent || a.mount != mount) {
		bpf_loop(PATH_DEPTH, ascend, &a, 0);
		return a.found;
	}
	struct verdict *known = bpf_map_lookup_elem(&verdicts, &directory);

	if (known && now - known->at < VERDICT_HOLDS)
		return known->found;
	bpf_loop(PATH_DEPTH, ascend, &a, 0);
	struct verdict fresh = { .at = now, .found = a.found };

	bpf_map_update_elem(&verdicts, &directory, &fresh, BPF_ANY);
	return a.found;
}

static __always_inline u32 said_of(struct file *file, enum saying which, u64 now)
{
	return said_of_file((u64)file, which, now);
}

static __always_inline bool is_quiet(struct file *file, u64 now)
{
	return said_of(file, QUIET, now);
}

/*
 * Whether somebody else answers for a file: a server, or a process (FUSE). What reads it may wait for ever. Local are file systems on a device of their own, and
 * those in memory or on top of others that the kernel itself keeps.
 */
static __always_inline bool is_remote(struct inode *inode)
{
	switch (READ(inode, i_sb, s_magic)) {
	case 0x65735546: /* fuse, also on a device */
		return true;
	case 0x01021994: /* tmpfs */
	case 0x858458f6: /* ramfs */
	case 0x794c7630: /* overlayfs */
	case 0x9123683e: /* btrfs */
	case 0x2fc12fc1: /* zfs */
	case 0xca451a4e: /* bcachefs */
	case 0x24051905: /* ubifs */
		return false;
	}
	return !READ(inode, i_sb, s_bdev);
}
