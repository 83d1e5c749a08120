/* SPDX-License-Identifier: GPL-2.0 */
/* Places of which policy says something, by device and inode: a name proves nothing in another mount namespace. The recorder fills them in. */
#pragma once

#include "task.h"

/* What is read below it is not told. Above this bit: one more than the number of a place whose files are digested. */
#define PLACE_QUIET 1u

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct place);
	__type(value, u32);
} places SEC(".maps");

struct ascent {
	struct dentry *dentry;
	struct mount *mount;
	u32 wanted;
	u32 found;
};

/* One step up from a file, until a place that is wanted: `found` is what is said of it. */
static long ascend(u32 turn, struct ascent *a)
{
	struct dentry *dentry = a->dentry, *parent = BPF_CORE_READ(dentry, d_parent);
	struct mount *mount = a->mount;
	struct place place = {};
	u32 *said;

	place.inode = BPF_CORE_READ(dentry, d_inode, i_ino);
	place.dev = BPF_CORE_READ(dentry, d_inode, i_sb, s_dev);
	said = bpf_map_lookup_elem(&places, &place);
	if (said && *said & a->wanted) {
		a->found = *said;
		return 1;
	}
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

static __always_inline struct mount *mount_of(struct vfsmount *mnt)
{
	return (struct mount *)((void *)mnt - bpf_core_field_offset(struct mount, mnt));
}

/* Going up costs more than all the rest: what was found of a directory, as it is seen through a mount, holds for this long. */
#define VERDICT_HOLDS 1000000000ull

struct directory {
	u64 dentry, inode, mount;
};

struct verdict {
	u64 at;
	u64 quiet;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct directory);
	__type(value, struct verdict);
} verdicts SEC(".maps");

static __always_inline bool is_quiet(struct file *file, u64 now)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry), *parent = BPF_CORE_READ(dentry, d_parent);
	struct mount *mount = mount_of(BPF_CORE_READ(file, f_path.mnt));
	struct directory directory = { (u64)parent, (u64)BPF_CORE_READ(parent, d_inode), (u64)mount };
	struct ascent a = { .dentry = dentry, .mount = mount, .wanted = PLACE_QUIET };

	/* The file itself may be quiet, or be mounted by itself. */
	if (ascend(0, &a))
		return a.found;
	if (a.dentry != parent || a.mount != mount) {
		bpf_loop(PATH_DEPTH, ascend, &a, 0);
		return a.found;
	}
	struct verdict *known = bpf_map_lookup_elem(&verdicts, &directory);

	if (known && now - known->at < VERDICT_HOLDS)
		return known->quiet;
	bpf_loop(PATH_DEPTH, ascend, &a, 0);
	struct verdict fresh = { .at = now, .quiet = a.found };

	bpf_map_update_elem(&verdicts, &directory, &fresh, BPF_ANY);
	return a.found;
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
