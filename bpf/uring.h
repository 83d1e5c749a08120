/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is done with files through io_uring.
 *
 * Hooks: the BTF tracepoints io_uring_submit_req (io_uring_submit_sqe before Linux 6.4), where a request has been taken in and the kernel has copied
 * its names, so that nobody can change them any more, and io_uring_complete, where its result is known; io_uring_cqe_overflow where the process has
 * left no room for that. By then the names are gone: both halves are told, and the recorder puts them together. A request may be worked on by a
 * thread of the kernel's own; these belong to the process. Not seen: the result of a request that asked for no completion (most failures are kept
 * quiet then, too); which file it is that a request opens for the ring alone, without a descriptor, and when that is closed.
 */
#pragma once

#include "requests.h"
#include "tcp.h"

/* The bit of a request's flags that says that it has rights of its own: every kernel has it elsewhere. The recorder sets it at the start. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} request_creds SEC(".maps");

/* Files that requests are about to close; the oldest goes when it is full: that access ends with its process. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 12);
	__type(key, u64);
	__type(value, u64);
} closes SEC(".maps");

/* How many descriptors of a process are looked at. */
#define DESCRIPTORS 4096
#define NO_DESCRIPTOR ((u32)-1)

struct descriptors {
	struct file **files;
	struct file *file;
	u32 own;
	bool found;
};

static long find_descriptor(u32 fd, struct descriptors *d)
{
	struct file *file = NULL;

	bpf_probe_read_kernel(&file, sizeof(file), &d->files[fd]);
	d->found = file == d->file && fd != d->own;
	return d->found;
}

/*
 * Whether the process has no descriptor of the file any more but `own`. How many refer to the file does not tell: requests that are
 * done hold it for a while.
 */
static __always_inline bool is_left(struct file *file, u32 own)
{
	if (references(file) == (own != NO_DESCRIPTOR ? 1 : 0))
		return true;
	struct fdtable *table = BPF_CORE_READ(bpf_get_current_task_btf(), files, fdt);
	struct descriptors d = { .file = file, .own = own };
	u32 max = BPF_CORE_READ(table, max_fds);

	d.files = BPF_CORE_READ(table, fd);
	bpf_loop(max < DESCRIPTORS ? max : DESCRIPTORS, find_descriptor, &d, 0);
	return !d.found;
}

/*
 * Functions of their own, one after the other, each with room of its own on the stack: that of one program is 512 bytes with all whom it calls, and
 * Linux 6.1 counts generously. Requests and files are numbers to them: global functions do not take what the verifier knows more of.
 */

/* What became of a request; `of`: the file that it was about, or none. */
__attribute__((noinline)) int answer(u64 request, s32 result, u32 untold, u64 of)
{
	struct answer_record r = { .h = header(KIND_FILE_ANSWER), .request = request };
	struct file *file = (struct file *)of;

	r.result = result < 0 ? -result : 0;
	r.untold = untold;
	if (file) {
		r.inode = BPF_CORE_READ(file, f_inode, i_ino);
		r.dev = BPF_CORE_READ(file, f_inode, i_sb, s_dev);
	}
	give(&r, sizeof(r), CLASS_FILE);
	return 0;
}

/* Whether policy wants it told that this file was opened. */
__attribute__((noinline)) int is_open_told(u64 address)
{
	struct file *file = (struct file *)address;
	u32 mode = BPF_CORE_READ(file, f_mode);
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	return !(mode & FMODE_PATH) && inode &&
	       is_told(bpf_get_current_task_btf(), file, inode, mode, bpf_ktime_get_boot_ns());
}

/* `begins`, of the call that is staged. */
__attribute__((noinline)) int open_begins(u64 address, u32 flags)
{
	struct file *file = (struct file *)address;
	struct call *c = staged();

	if (!c)
		return 0;
	return begins(c, file, BPF_CORE_READ(file, f_inode), BPF_CORE_READ(file, f_mode), flags, bpf_ktime_get_boot_ns());
}

/* A request has opened a file that its process has by a descriptor. */
__attribute__((noinline)) int open_done(u64 request, s32 fd)
{
	struct io_open *open = (struct io_open *)request;
	u64 file = (u64)file_of(fd);
	struct call *c = stage(FILE_OPEN, 0);

	if (!c)
		return 0;
	c->fd = fd;
	c->request = request;
	if (file && is_open_told(file) && open_begins(file, BPF_CORE_READ(open, how.flags)))
		return tell_file(c);
	return answer(request, 0, true, file);
}

/* Opens of a batch whose descriptor was closed, or is about to be, within the same batch: they have been told of. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 12);
	__type(key, u64);
	__type(value, u8);
} told_early SEC(".maps");

static long find_open(u32 turn, struct batch *b)
{
	struct io_wq_work_node *node = b->node;

	if (!node)
		return 1;
	struct io_kiocb *req = request_of(node);
	struct io_open *open = (void *)req;
	u8 opcode = BPF_CORE_READ(req, opcode);
	u64 key = (u64)req;

	if ((opcode == IORING_OP_OPENAT || opcode == IORING_OP_OPENAT2) && BPF_CORE_READ(req, cqe.res) == b->result &&
	    !BPF_CORE_READ(open, file_slot) && !bpf_map_lookup_elem(&told_early, &key)) {
		b->found = req;
		return 1;
	}
	b->node = BPF_CORE_READ(node, next);
	return 0;
}

/* Before a descriptor is closed: who got it in the same batch would not find its file any more when the batch is done. */
__attribute__((noinline)) int tell_early(u64 request, s32 fd)
{
	struct io_kiocb *req = (struct io_kiocb *)request;
	struct io_ring_ctx *ring = BPF_CORE_READ(req, ctx);
	struct batch b = { .result = fd };
	u8 one = 1;

	b.node = BPF_CORE_READ(ring, submit_state.compl_reqs.first);
	bpf_loop(MAX_BATCH, find_open, &b, 0);
	u64 key = (u64)b.found;

	if (!key)
		return 0;
	bpf_map_update_elem(&told_early, &key, &one, BPF_ANY);
	return open_done(key, fd);
}

/* The address alone of what the verifier knows more of. */
static __always_inline u64 plain(void *object)
{
	u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &object);
	return address;
}

/* A request will close this descriptor: the file, if the access to it ends with that and nothing more will be heard of it. */
__attribute__((noinline)) u64 closes_unheard(u64 request, u32 fd)
{
	struct io_kiocb *req = (struct io_kiocb *)request;
	struct file *file = file_of(fd);
	u64 key = request, address = (u64)file;

	if (!file || !bpf_map_lookup_elem(&opened, &address))
		return 0;
	if (BPF_CORE_READ(req, flags) & REQUEST_SILENT)
		return is_left(file, fd) ? address : 0;
	bpf_map_update_elem(&closes, &key, &address, BPF_ANY);
	return 0;
}

/* A request has closed a descriptor: the file, if the access to it has ended with that. */
__attribute__((noinline)) u64 has_closed(u64 request, s32 result)
{
	u64 key = request, *known = bpf_map_lookup_elem(&closes, &key);

	if (!known)
		return 0;
	u64 address = *known;

	bpf_map_delete_elem(&closes, &key);
	/* The kernel gives the file back only when this task is through with its requests. */
	return result == 0 && is_left((struct file *)address, NO_DESCRIPTOR) ? address : 0;
}

__attribute__((noinline)) int close_asked(u64 request)
{
	struct io_close *close = (struct io_close *)request;

	if (BPF_CORE_READ(close, file_slot))
		return 0;
	u32 fd = BPF_CORE_READ(close, fd);

	tell_early(request, fd);
	u64 address = closes_unheard(request, fd);

	return address ? finish_access(address, address, false) : 0;
}

__attribute__((noinline)) int close_done(u64 request, s32 result)
{
	u64 address = has_closed(request, result);

	return address ? finish_access(address, address, false) : 0;
}

SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(on_request, struct io_kiocb *req)
{
	u8 opcode = req->opcode;

	if (!is_one_of(ASKING, opcode))
		return 0;
	if (opcode == IORING_OP_CLOSE) {
		close_asked(plain(req));
		return 0;
	}
	struct call *c = stage(FILE_OPEN, 0);

	if (!c)
		return 0;
	c->fd = -1;
	c->request = (u64)req;
	if (!fill_request(c, req, opcode))
		return 0;
	/* Another request had this place before. */
	bpf_map_delete_elem(&told_early, &c->request);
	u32 flags = BPF_CORE_READ(req, flags), only = 0, *creds = bpf_map_lookup_elem(&request_creds, &only);

	c->flags = FILE_ASKED;
	if (flags & REQUEST_SILENT)
		c->flags |= FILE_SILENT;
	if (creds && flags & *creds)
		c->creds = (u64)BPF_CORE_READ(req, creds);
	tell_name(c);
	return 0;
}

__attribute__((noinline)) int connection_done(u64 request, u32 opcode, s32 result)
{
	struct io_kiocb *req = (struct io_kiocb *)request;
	struct io_accept *accept = (void *)req;
	struct io_connect *connect = (void *)req;

	if (opcode == IORING_OP_ACCEPT)
		return BPF_CORE_READ(accept, file_slot) ? 0 : accepted(result);
	return connected(result, BPF_CORE_READ(req, file), (u64)BPF_CORE_READ(connect, addr));
}

/* Something was done to a file that the request has at hand. */
__attribute__((noinline)) int change_done(u64 request, u32 operation, s32 result)
{
	struct io_kiocb *req = (struct io_kiocb *)request;
	struct call *c = stage(operation, result);

	if (!c)
		return 0;
	c->file = (u64)BPF_CORE_READ(req, file);
	c->fd = -1;
	c->request = request;
	return c->file ? tell_file(c) : 0;
}

__attribute__((noinline)) int done(u64 request)
{
	struct io_kiocb *req = (struct io_kiocb *)request;
	struct io_open *open = (struct io_open *)request;
	u8 opcode = BPF_CORE_READ(req, opcode);

	if (!is_one_of(ANSWERING, opcode))
		return 0;
	s32 result = BPF_CORE_READ(req, cqe.res);
	u64 key = request;

	switch (opcode) {
	case IORING_OP_CLOSE:
		return close_done(request, result);
	case IORING_OP_ACCEPT:
	case IORING_OP_CONNECT:
		return connection_done(request, opcode, result);
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2:
		if (!bpf_map_delete_elem(&told_early, &key))
			return 0;
		/* Without a descriptor, or when it is closed again already, its name is all there is. */
		if (result < 0 || BPF_CORE_READ(open, file_slot) || !file_of(result))
			break;
		return open_done(request, result);
	case IORING_OP_FSETXATTR:
		if (is_worth(result))
			return change_done(request, FILE_XATTR, result);
		break;
	case IORING_OP_FTRUNCATE:
		if (is_worth(result))
			return change_done(request, FILE_TRUNCATE, result);
		break;
	}
	return answer(request, result, result < 0 && !is_denial(result), 0);
}

SEC("tp_btf/io_uring_complete")
int BPF_PROG(on_answer, void *ring, struct io_kiocb *req)
{
	/* Most are none of these, and functions are not called for nothing. */
	return req && is_one_of(ANSWERING, BPF_CORE_READ(req, opcode)) ? done(plain(req)) : 0;
}

/* The request that the running task is at, if it is a worker thread. */
static __always_inline struct io_kiocb *current_request(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct io_worker *worker = task->flags & PF_IO_WORKER ? task->worker_private : NULL;
	struct io_wq_work *work = worker ? BPF_CORE_READ(worker, cur_work) : NULL;

	return work ? (void *)work - bpf_core_field_offset(struct io_kiocb, work) : NULL;
}

/* The request of the batch that is being told which has this result. */
__attribute__((noinline)) u64 request_with(u64 ring, u64 user_data, s32 result)
{
	struct batch b = { .user_data = user_data, .result = result };

	b.node = BPF_CORE_READ((struct io_ring_ctx *)ring, submit_state.compl_reqs.first);
	bpf_loop(MAX_BATCH, find_result, &b, 0);
	return (u64)b.found;
}

/*
 * The process has left no room for completions; the event names the request only as the process does. Worker threads meet with it before Linux 6.10;
 * else it is of the batch that is being told.
 */
SEC("tp_btf/io_uring_cqe_overflow")
int BPF_PROG(on_overflow, struct io_ring_ctx *ring, u64 user_data, s32 result)
{
	struct io_kiocb *req = current_request();

	if (req && BPF_CORE_READ(req, cqe.user_data) == user_data && BPF_CORE_READ(req, cqe.res) == result)
		return done((u64)req);
	u64 found = request_with(plain(ring), user_data, result);

	return found ? done(found) : 0;
}
