/* SPDX-License-Identifier: GPL-2.0 */
/* The structures and fields of the kernel that are really read, and no others. CO-RE finds their places in the running kernel. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct proc_ns_operations {
	const char *name;
};

struct ns_common {
	const struct proc_ns_operations *ops;
	unsigned int inum;
};

struct uts_namespace {
	struct ns_common ns;
};

struct ipc_namespace {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct xarray {
	void *xa_head;
};

struct xa_node {
	unsigned char shift;
	void *slots[64];
};

struct idr {
	struct xarray idr_rt;
};

struct pid_namespace {
	struct idr idr;
	struct ns_common ns;
};

struct time_namespace {
	struct ns_common ns;
};

struct user_namespace {
	struct ns_common ns;
};

struct cgroup_namespace {
	struct ns_common ns;
};

struct net {
	struct ns_common ns;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
	struct time_namespace *time_ns_for_children;
	struct cgroup_namespace *cgroup_ns;
};

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

/* Before Linux 6.3 it was two words of 32 bits, in the same place. */
typedef struct {
	u64 val;
} kernel_cap_t;

struct cred {
	kuid_t uid, suid, euid, fsuid;
	kgid_t gid, sgid, egid, fsgid;
	kernel_cap_t cap_inheritable, cap_permitted, cap_effective;
	struct user_namespace *user_ns;
	struct group_info *group_info;
};

struct group_info {
	int ngroups;
	kgid_t gid[];
};

struct qstr {
	u32 hash;
	const unsigned char *name;
};

struct hlist_bl_node {
	struct hlist_bl_node **pprev;
};

struct block_device;

struct super_block {
	u32 s_dev;
	unsigned long s_magic;
	struct block_device *s_bdev;
};

struct timespec64 {
	long long tv_sec;
	long tv_nsec;
};

struct inode {
	u16 i_mode;
	kuid_t i_uid;
	struct super_block *i_sb;
	unsigned long i_ino;
	unsigned int i_nlink;
	long long i_size;
	long long i_mtime_sec;
	u32 i_mtime_nsec;
	long long i_ctime_sec;
	u32 i_ctime_nsec;
	u32 i_generation;
	void *i_private;
};

/* Linux 6.6 renamed the time of the last change of contents, 6.11 split it. */
struct inode___whole {
	struct timespec64 __i_mtime, __i_ctime;
};

struct inode___old {
	struct timespec64 i_mtime, i_ctime;
};

typedef struct {
	unsigned int sequence;
} seqcount_t;

typedef struct {
	seqcount_t seqcount;
} seqcount_spinlock_t;

struct dentry {
	seqcount_spinlock_t d_seq;
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

typedef struct {
	long counter;
} atomic_long_t;

typedef struct {
	atomic_long_t refcnt;
} file_ref_t;

struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
	unsigned int f_mode;
	unsigned int f_flags;
	long long f_pos;
	file_ref_t f_ref;
};

/* Before Linux 6.13: how many refer to it, where the new count begins with nought for one. */
struct file___counted {
	atomic_long_t f_count;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
	unsigned long *open_fds;
};

typedef struct {
	int counter;
} atomic_t;

struct files_struct {
	atomic_t count;
	struct fdtable *fdt;
};

struct fs_struct {
	struct path root;
	struct path pwd;
};

struct pid;

/* The inode of a file of /proc, within which is the kernel's common inode. */
struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
};

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start, arg_end;
};

struct tty_struct {
	char name[64];
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct pid {
	unsigned int level;
	struct hlist_head tasks[4];
	struct upid numbers[1];
};

struct task_io_accounting {
	u64 rchar, wchar, read_bytes, write_bytes;
};

enum pid_type { PIDTYPE_PID, PIDTYPE_TGID, PIDTYPE_PGID, PIDTYPE_SID };

struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
	struct pid *pids[4];
	struct tty_struct *tty;
	u64 utime, stime;
	unsigned long maxrss;
	struct task_io_accounting ioac;
	unsigned long long sum_sched_runtime;
};

struct sched_entity {
	u64 sum_exec_runtime;
};

struct kernfs_node {
	struct kernfs_node *parent;
	const char *name;
};

/* Linux 6.15 renamed the pointer to the parent. */
struct kernfs_node___renamed {
	struct kernfs_node *__parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long bx, cx, dx, si, di, bp, r10, r8, orig_ax;
};
struct thread_info {
	u32 status;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	unsigned long regs[31];
};
struct pt_regs {
	struct user_pt_regs user_regs;
	u64 orig_x0;
	s32 syscallno;
};
struct thread_info {
	unsigned long flags;
};
#else
#error "system calls are not known for this architecture"
#endif

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	struct sched_entity se;
	struct mm_struct *mm;
	int exit_code;
	unsigned int in_execve : 1;
	int pid, tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct hlist_node pid_links[4];
	u64 utime, stime;
	u64 start_boottime;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	kuid_t loginuid;
	unsigned int sessionid;
	u64 parent_exec_id, self_exec_id;
	struct task_io_accounting ioac;
	struct css_set *cgroups;
	void *worker_private;
};

/* Before Linux 5.7 the counter of execs had 32 bits. */
struct task_struct___narrow {
	u32 parent_exec_id, self_exec_id;
};

struct io_wq_work_node {
	struct io_wq_work_node *next;
};

struct io_wq_work_list {
	struct io_wq_work_node *first;
};

struct io_wq_work {
	unsigned int flags;
};

struct io_submit_state {
	struct io_wq_work_list compl_reqs;
};

struct io_ring_ctx {
	struct io_submit_state submit_state;
};

struct io_cqe {
	u64 user_data;
	s32 res;
	int fd;
};

/* A request to io_uring. What an operation needs lies at its begin, as one of the structures below. */
struct io_kiocb {
	struct file *file;
	u8 opcode;
	u32 flags;
	struct io_cqe cqe;
	struct io_ring_ctx *ctx;
	struct io_wq_work_node comp_list;
	const struct cred *creds;
	struct io_wq_work work;
};

/* What a worker thread is at: within a request. */
struct io_worker {
	struct io_wq_work *cur_work;
};

/* A name that the kernel has copied. */
struct filename {
	const char *name;
};

struct open_how {
	u64 flags;
};

struct io_open {
	int dfd;
	u32 file_slot;
	struct filename *filename;
	struct open_how how;
};

struct io_close {
	int fd;
	u32 file_slot;
};

struct io_rename {
	int old_dfd, new_dfd;
	struct filename *oldpath, *newpath;
	int flags;
};

struct io_unlink {
	int dfd, flags;
	struct filename *filename;
};

struct io_mkdir {
	int dfd;
	u16 mode;
	struct filename *filename;
};

struct io_link {
	int old_dfd, new_dfd;
	struct filename *oldpath, *newpath;
};

struct xattr_name {
	char name[256];
};

struct kernel_xattr_ctx {
	struct xattr_name *kname;
};

struct io_xattr {
	struct kernel_xattr_ctx ctx;
	struct filename *filename;
};

struct io_accept {
	u32 file_slot;
};

struct io_connect {
	void *addr;
};

/* Since Linux 7.0 the names are within a structure. */
struct delayed_filename {
	struct filename *__incomplete_filename;
};

struct io_open___delayed {
	struct delayed_filename filename;
};

struct io_rename___delayed {
	struct delayed_filename oldpath, newpath;
};

struct io_unlink___delayed {
	struct delayed_filename filename;
};

struct io_mkdir___delayed {
	struct delayed_filename filename;
};

struct io_link___delayed {
	struct delayed_filename oldpath, newpath;
};

struct io_xattr___delayed {
	struct delayed_filename filename;
};

struct linux_binprm {
	const char *filename;
	const char *interp;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr_bytes {
	u8 bytes[16];
};

struct in6_addr {
	union {
		u8 u6_addr8[16];
	} in6_u;
};

typedef struct {
	long long counter;
} atomic64_t;

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
	unsigned long skc_flags;
};

struct sock {
	struct sock_common __sk_common;
	u16 sk_protocol;
	u16 sk_type;
	int sk_err;
};

struct inet_sock {
	u32 inet_saddr;
	u16 inet_sport;
};

struct tcp_sock {
	u64 bytes_sent;
	u64 bytes_retrans;
	u64 bytes_received;
	u32 segs_out;
	u32 segs_in;
};

struct socket {
	struct sock *sk;
	struct file *file;
};

struct bpf_prog_aux {
	u32 id;
	char name[16];
};

struct bpf_prog {
	enum bpf_prog_type type;
	struct bpf_prog_aux *aux;
};

struct kernel_siginfo {
	int si_code;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
};

#pragma clang attribute pop

#define PF_IO_WORKER 0x00000010
#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 0x00000004
#define SOCK_DONE_BIT 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define SOCK_DGRAM 2
