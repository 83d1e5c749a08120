/* SPDX-License-Identifier: GPL-2.0 */
/* Places of which policy says something: those below which reads are not told, and those whose files are digested. */
#pragma once

#include "task.h"

#define EBADF 9

/*
 * Directories, and files, that everybody reads: reads of what is in them are not told. By the address of the kernel's inode, which the recorder holds
 * for as long as it runs: numbers of inodes are used again, the subvolumes and snapshots of a file system share them, and what stat(2) calls the
 * device is not the super block's everywhere.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, u64);
	__type(value, u8);
} quiet SEC(".maps");

/* Those whose files are digested, by device and inode, because to hold them would keep file systems from being unmounted; one more than their number. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct place);
	__type(value, u32);
} places SEC(".maps");

/* What may be said of a place. */
enum saying { QUIET, DIGESTED };

struct ascent {
	struct dentry *dentry;
	struct mount *mount;
	u32 found;
};

/* One step up from a file; not zero at the top. */
static __always_inline long up(struct ascent *a)
{
	struct dentry *dentry = a->dentry, *parent = BPF_CORE_READ(dentry, d_parent);
	struct mount *mount = a->mount;

	if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
		struct mount *above = BPF_CORE_READ(mount, mnt_parent);

		if (above == mount || !above)
			return 1;
		a->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		a->mount = above;
		return 0;
	}
	if (dentry == parent)
		return 1;
	a->dentry = parent;
	return 0;
}

static long ascend(u32 turn, struct ascent *a)
{
	struct dentry *dentry = a->dentry;
	u64 inode = (u64)BPF_CORE_READ(dentry, d_inode);

	if (bpf_map_lookup_elem(&quiet, &inode)) {
		a->found = 1;
		return 1;
	}
	return up(a);
}

static long ascend_to_digested(u32 turn, struct ascent *a)
{
	struct dentry *dentry = a->dentry;
	struct place place = {};
	u32 *number;

	place.inode = BPF_CORE_READ(dentry, d_inode, i_ino);
	place.dev = BPF_CORE_READ(dentry, d_inode, i_sb, s_dev);
	number = bpf_map_lookup_elem(&places, &place);
	if (number) {
		a->found = *number;
		return 1;
	}
	return up(a);
}

/* What the recorder asks for: reads below the file behind this descriptor of its own are not to be told. */
struct silence {
	u32 fd;
};

/* Run by the recorder itself (BPF_PROG_TYPE_SYSCALL, Linux 5.14), so that the kernel looks up the inode, and no number has to stand for it. */
SEC("syscall")
int be_quiet(struct silence *silence)
{
	struct file *file = file_of(silence->fd);
	u64 inode = file ? (u64)BPF_CORE_READ(file, f_path.dentry, d_inode) : 0;
	u8 yes = 1;

	return inode ? bpf_map_update_elem(&quiet, &inode, &yes, BPF_ANY) : -EBADF;
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

static __always_inline void ascend_all(enum saying which, struct ascent *a)
{
	if (which == QUIET)
		bpf_loop(PATH_DEPTH, ascend, a, 0);
	else
		bpf_loop(PATH_DEPTH, ascend_to_digested, a, 0);
}

/* What is said of the place that a file is below, or of the file itself. */
static __always_inline u32 said_of(struct file *file, enum saying which, u64 now)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry), *parent = BPF_CORE_READ(dentry, d_parent);
	struct mount *mount = mount_of(BPF_CORE_READ(file, f_path.mnt));
	struct directory directory = { (u64)parent, (u64)BPF_CORE_READ(parent, d_inode), (u64)mount, which };
	struct ascent a = { .dentry = dentry, .mount = mount };

	/* The file itself may be a place, or be mounted by itself. */
	if (which == QUIET ? ascend(0, &a) : ascend_to_digested(0, &a))
		return a.found;
	if (a.dentry != parent || a.mount != mount) {
		ascend_all(which, &a);
		return a.found;
	}
	struct verdict *known = bpf_map_lookup_elem(&verdicts, &directory);

	if (known && now - known->at < VERDICT_HOLDS)
		return known->found;
	ascend_all(which, &a);
	struct verdict fresh = { .at = now, .found = a.found };

	bpf_map_update_elem(&verdicts, &directory, &fresh, BPF_ANY);
	return a.found;
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
	switch (BPF_CORE_READ(inode, i_sb, s_magic)) {
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
	return !BPF_CORE_READ(inode, i_sb, s_bdev);
}
