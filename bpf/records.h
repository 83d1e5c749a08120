/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What passes from the kernel to the recorder. The same layout stands in crates/sensor/src/ebpf/record.rs; sizes are asserted on both
 * sides and a test compares every field's place with the type information of the compiled object.
 */
#pragma once

#include "types.h"

enum kind {
	KIND_FORK = 1,
	KIND_EXEC,
	KIND_TASK,		/* found by the iterator: an exec record without arguments */
	KIND_EXIT,
	KIND_RENAME,
	KIND_CREDENTIALS,
	KIND_EXEC_DENIED,
	KIND_ENDPOINT,
	KIND_ENDPOINT_END,
	KIND_CONNECT_FAILED,	/* the system call failed before the connection began */
	KIND_UDP_RELEASE,
	KIND_ARGUMENTS,		/* bulk ring: a piece of an exec's arguments */
	KIND_DNS,		/* bulk ring: a DNS message or a piece of one */
	KIND_FILE,		/* a file was opened, or something was done to it */
	KIND_FILE_END,		/* an opened file was closed */
	KIND_FILE_CLOEXEC,	/* whether an exec closes it changed: pad says to what */
	KIND_FILE_AGAIN,	/* it was opened and closed again, and more may follow untold: see the table `accesses` */
	KIND_PRIVILEGE,
	KIND_FILE_ANSWER,	/* what became of a request that a KIND_FILE has told of */
	KIND_FILE_CONTENT,	/* a file was closed with new contents, in a place whose files are digested */
};

/* Classes of events, for counting what is lost. */
enum class {
	CLASS_PROCESS,
	CLASS_ARGUMENTS,
	CLASS_RENAME,
	CLASS_CREDENTIALS,
	CLASS_EXEC_DENIED,
	CLASS_TCP,
	CLASS_TCP_ACCEPT,
	CLASS_UDP,
	CLASS_UDP_TABLE,
	CLASS_NAMES,
	CLASS_FILE,
	CLASS_KERNEL,
	CLASS_BPF,
	CLASS_PTRACE,
	CLASS_NAMESPACES,
	CLASS_SIGNALS,
	CLASS_DIGEST,
	CLASSES,
};

struct header {
	u32 kind;
	u32 pad;
	u64 at;			/* CLOCK_BOOTTIME, ns */
};

struct image {
	u32 pid;
	u32 execs;
	u64 start;		/* CLOCK_BOOTTIME, ns */
};

struct actor {
	struct image image;
	u32 euid;
	u32 auid;
	u32 session;
	u32 tid;
	char comm[16];
};

struct ids {
	u32 uid, euid, suid, fsuid;
	u32 gid, egid, sgid, fsgid;
	u64 inheritable, permitted, effective;	/* capabilities */
};

struct task {
	struct image image;
	struct image creator;	/* pid 0: none */
	struct ids ids;
	u32 ppid;
	u32 auid;
	u32 session;
	u32 sid;
	u32 mntns, netns, pidns, userns, utsns, ipcns, cgroupns;
	u32 flags;
	char comm[16];
	char tty[24];
};

/* The strings of a record, in this order, in its data. Paths are components, the last first, each ended by NUL. */
struct fork_record {
	struct header h;
	struct task task;
	u32 cgroup_len;
	u32 pad;
	char data[];
};

struct exec_record {
	struct header h;
	struct task task;
	u64 inode;
	u64 size, mtime, ctime;	/* of the image file */
	u32 dev;
	u32 owner;
	u32 mode;
	u32 links;		/* of the image file */
	u32 unhashed;		/* the image file's name is gone */
	u32 path_len;
	u32 cwd_len;
	u32 cgroup_len;
	u32 filename_len;	/* as named to exec */
	u32 script;		/* the image is an interpreter */
	u64 args_total;
	u32 args_len;		/* in this record */
	u32 args_bulk;		/* in the bulk ring */
	u32 remote;		/* the answer of the image's file system may never come */
	u32 pad;
	char data[];
};

struct exit_record {
	struct header h;
	struct image image;
	u32 status;		/* as wait(2) gives it */
	u32 pad;
	u64 utime, stime;	/* ticks' accounting, ns */
	u64 runtime;		/* the scheduler's accounting, ns */
	u64 maxrss;		/* pages */
	u64 rchar, wchar, read_bytes, write_bytes;
};

struct rename_record {
	struct header h;
	struct actor actor;
	char old[16];
};

struct credentials_record {
	struct header h;
	struct actor actor;
	struct ids ids;
	u32 operation;
	u32 pad;
};

/* What a record of a privilege means by its arguments and its text stands with the program that fills them in. */
struct privilege_record {
	struct header h;
	struct actor actor;
	struct actor target;	/* image.pid 0: none */
	struct ids ids;		/* of the actor, after it */
	u32 operation;
	s32 error;		/* 0: it was done */
	u64 arguments[3];
	u32 spaces[8];		/* enum space: the namespaces, 0 where not of interest */
	char text[64];
};

enum space { SPACE_MNT, SPACE_UTS, SPACE_IPC, SPACE_USER, SPACE_PID, SPACE_NET, SPACE_CGROUP, SPACE_TIME };

struct denied_record {
	struct header h;
	struct actor actor;
	s32 error;
	u32 path_len;
	u32 args_len;
	u32 more;		/* there were more arguments than are here */
	char data[];
};

struct endpoint_record {
	struct header h;
	struct actor actor;	/* image.pid 0: unknown */
	u64 socket;
	u64 since;
	u8 local[16];
	u8 remote[16];
	u16 local_port;
	u16 remote_port;
	u8 family;		/* 4 or 6 */
	u8 transport;		/* IPPROTO_… */
	u8 direction;		/* enum direction */
	u8 found;		/* by the iterator */
	u32 netns;
	s32 result;		/* -1: unknown */
	u64 bytes_sent, bytes_received;
	u64 packets_sent, packets_received;
};

enum direction { DIRECTION_NONE, DIRECTION_OUT, DIRECTION_IN, DIRECTION_LISTEN };

struct release_record {
	struct header h;
	u64 socket;
};

struct arguments_record {
	struct header h;
	struct image image;
	u32 offset;
	u32 len;
	char data[];
};

struct dns_record {
	struct header h;
	struct actor actor;	/* image.pid 0: unknown */
	u64 socket;
	u8 server[16];
	u16 port;
	u8 family;
	u8 transport;
	u32 netns;
	u32 sequence;
	u32 length;
	u32 sent;
	u32 len;
	char data[];
};

/* An access: a process image has a file open for reading, writing or both, perhaps many times over. */
struct access_key {
	struct image image;
	u64 inode;
	u32 dev;
	u32 access;		/* ACCESS_…, and FILE_… above them */
	u32 which;		/* which file of this inode number, and which of its names */
	u32 pad;
};

/* What is known of it, in the table `accesses`. */
struct access {
	u64 last;		/* when it was opened or closed last */
	u64 told;		/* when its last KIND_FILE_END was given */
	u64 size;
	u64 position;		/* how far it was read or written, by the file's own position */
	u32 opens;
	u32 open;		/* of them, still open */
	u32 modified;
	u32 again;		/* KIND_FILE_AGAIN was given since */
	u64 mtime, ctime;	/* at the last close that found it modified */
	u64 content;		/* when KIND_FILE_CONTENT was given last, or was not because policy does not ask for it */
};

enum access_bits { ACCESS_READ = 1, ACCESS_WRITE = 2 };

/*
 * The strings, in this order: the name as the call gave it; the directory that it starts from, or the whole path of a file that the kernel has at
 * hand or has noted (name_len is 0 then); the second name, and where that starts from, or the same of it.
 */
struct file_record {
	struct header h;
	struct actor actor;
	u64 inode;		/* 0: only names are known */
	u64 size;
	u32 dev;
	u32 owner;
	u32 mode;
	u32 operation;		/* enum file_operation */
	u32 access;
	u32 flags;		/* FILE_… */
	s32 result;
	s32 fd;
	u32 argument;
	u32 argument2;
	u32 mntns;
	u32 rooted;		/* how much of the path lies below the process's root; -1: it does not */
	u32 name_len;
	u32 path_len;
	u32 name2_len;
	u32 path2_len;
	u32 which;		/* as in the key of its access */
	u32 pad;
	u64 request;		/* names the request to io_uring, while it lives; 0: a system call */
	char data[];
};

enum file_operation {
	FILE_OPEN,
	FILE_MAP,
	FILE_UNLINK,
	FILE_RMDIR,
	FILE_RENAME,
	FILE_MKDIR,
	FILE_MKNOD,
	FILE_SYMLINK,
	FILE_LINK,
	FILE_CHMOD,
	FILE_CHOWN,
	FILE_XATTR,
	FILE_TRUNCATE,
	FILE_UTIMES,
	FILE_MOUNT,
	FILE_UMOUNT,
};

enum file_flags {
	FILE_CREATED = 1,
	FILE_TRUNCATED = 2,
	FILE_CLOEXEC = 4,
	FILE_DELETED = 8,
	FILE_UNREAD = 16,	/* a name was not to be read any more when the call ended */
	FILE_ASKED = 32,	/* a request was made: what becomes of it follows */
	FILE_SILENT = 64,	/* and nothing follows if it is done */
};

struct answer_record {
	struct header h;
	u64 request;
	s32 result;
	u32 untold;		/* policy wants nothing told of it */
	u64 inode;		/* 0: no file is at hand */
	u32 dev;
	u32 pad;
};

/* How an access ended: it was closed, or... */
enum {
	END_EXIT = 1,		/* its process ends */
	END_UNSEEN = 2,		/* some time before: what there was of it is gone */
};

struct file_end_record {
	struct header h;	/* pad: how */
	struct access_key key;
	struct access access;
};

/* Where policy says something of files: of a file, or of all that is below a directory. */
struct place {
	u64 inode;
	u32 dev;
	u32 pad;
};

/* The path, as at the close; `below` bytes of it lie below the place. */
struct content_record {
	struct header h;
	struct access_key key;
	u64 size, mtime, ctime;
	u32 euid;
	u32 place;		/* its number */
	u32 mntns;
	u32 remote;		/* the file system's answer may never come */
	u32 below;
	u32 path_len;
	char data[];
};

/* The UDP table: traffic between a socket and a peer. */
struct peer_key {
	u64 socket;
	u8 addr[16];
	u16 port;
	u16 family;
	u32 pad;
};

struct peer {
	u64 last;
	u64 bytes_sent, bytes_received;
	u64 packets_sent, packets_received;
};

_Static_assert(sizeof(struct header) == 16, "header");
_Static_assert(sizeof(struct actor) == 48, "actor");
_Static_assert(sizeof(struct task) == 176, "task");
_Static_assert(sizeof(struct fork_record) == 200, "fork_record");
_Static_assert(sizeof(struct exec_record) == 288, "exec_record");
_Static_assert(sizeof(struct exit_record) == 104, "exit_record");
_Static_assert(sizeof(struct rename_record) == 80, "rename_record");
_Static_assert(sizeof(struct credentials_record) == 128, "credentials_record");
_Static_assert(sizeof(struct privilege_record) == 296, "privilege_record");
_Static_assert(sizeof(struct denied_record) == 80, "denied_record");
_Static_assert(sizeof(struct endpoint_record) == 160, "endpoint_record");
_Static_assert(sizeof(struct release_record) == 24, "release_record");
_Static_assert(sizeof(struct arguments_record) == 40, "arguments_record");
_Static_assert(sizeof(struct dns_record) == 112, "dns_record");
_Static_assert(sizeof(struct access_key) == 40, "access_key");
_Static_assert(sizeof(struct access) == 72, "access");
_Static_assert(sizeof(struct file_record) == 160, "file_record");
_Static_assert(sizeof(struct answer_record) == 48, "answer_record");
_Static_assert(sizeof(struct file_end_record) == 128, "file_end_record");
_Static_assert(sizeof(struct content_record) == 104, "content_record");
_Static_assert(sizeof(struct peer_key) == 32, "peer_key");
_Static_assert(sizeof(struct peer) == 40, "peer");
