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

static __always_inline void answer(struct io_kiocb *req, s32 result, bool untold, struct file *file)
{
	struct answer_record r = { .h = header(KIND_FILE_ANSWER), .request = (u64)req };

	r.result = result < 0 ? -result : 0;
	r.untold = untold;
	if (file) {
		r.inode = BPF_CORE_READ(file, f_inode, i_ino);
		r.dev = BPF_CORE_READ(file, f_inode, i_sb, s_dev);
	}
	give(&r, sizeof(r), CLASS_FILE);
}

/* A request has opened a file that its process has by a descriptor. */
static __always_inline int open_done(struct io_kiocb *req, s32 fd)
{
	struct io_open *open = (void *)req;
	struct call *c = stage(FILE_OPEN, 0);

	if (!c)
		return 0;
	c->fd = fd;
	c->request = (u64)req;
	if (has_opened(c, BPF_CORE_READ(open, how.flags)))
		return tell_file(c);
	answer(req, 0, true, file_of(fd));
	return 0;
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
static __always_inline void tell_early(struct io_kiocb *req, s32 fd)
{
	struct io_ring_ctx *ring = BPF_CORE_READ(req, ctx);
	struct batch b = { .result = fd };
	u8 one = 1;

	b.node = BPF_CORE_READ(ring, submit_state.compl_reqs.first);
	bpf_loop(MAX_BATCH, find_open, &b, 0);
	u64 key = (u64)b.found;

	if (!key)
		return;
	bpf_map_update_elem(&told_early, &key, &one, BPF_ANY);
	open_done((struct io_kiocb *)key, fd);
}

static __always_inline void close_asked(struct io_kiocb *req)
{
	struct io_close *close = (void *)req;
	u64 key = (u64)req;

	if (BPF_CORE_READ(close, file_slot))
		return;
	u32 fd = BPF_CORE_READ(close, fd);
	struct file *file = file_of(fd);
	u64 address = (u64)file;

	if (!file)
		return;
	tell_early(req, fd);
	if (!bpf_map_lookup_elem(&opened, &address))
		return;
	if (!(BPF_CORE_READ(req, flags) & REQUEST_SILENT))
		bpf_map_update_elem(&closes, &key, &address, BPF_ANY);
	else if (is_left(file, fd))
		end_access(address, file, false);
}

static __always_inline void close_done(struct io_kiocb *req, s32 result)
{
	u64 key = (u64)req, *known = bpf_map_lookup_elem(&closes, &key);

	if (!known)
		return;
	u64 address = *known;

	bpf_map_delete_elem(&closes, &key);
	struct file *file = (struct file *)address;

	/* The kernel gives the file back only when this task is through with its requests. */
	if (result == 0 && is_left(file, NO_DESCRIPTOR))
		end_access(address, file, false);
}

SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(on_request, struct io_kiocb *req)
{
	u8 opcode = req->opcode;

	if (!is_one_of(ASKING, opcode))
		return 0;
	if (opcode == IORING_OP_CLOSE) {
		close_asked(req);
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

static __always_inline int done(struct io_kiocb *req)
{
	u8 opcode = BPF_CORE_READ(req, opcode);

	if (!is_one_of(ANSWERING, opcode))
		return 0;
	struct io_open *open = (void *)req;
	struct io_accept *accept = (void *)req;
	struct io_connect *connect = (void *)req;
	s32 result = BPF_CORE_READ(req, cqe.res);
	u64 key = (u64)req;
	struct call *c;

	switch (opcode) {
	case IORING_OP_CLOSE:
		close_done(req, result);
		return 0;
	case IORING_OP_ACCEPT:
		return BPF_CORE_READ(accept, file_slot) ? 0 : accepted(result);
	case IORING_OP_CONNECT:
		return connected(result, BPF_CORE_READ(req, file), (u64)BPF_CORE_READ(connect, addr));
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2:
		if (!bpf_map_delete_elem(&told_early, &key))
			return 0;
		/* Without a descriptor, or when it is closed again already, its name is all there is. */
		if (result < 0 || BPF_CORE_READ(open, file_slot) || !file_of(result))
			break;
		return open_done(req, result);
	case IORING_OP_FSETXATTR:
	case IORING_OP_FTRUNCATE:
		if (!is_worth(result))
			break;
		c = stage(opcode == IORING_OP_FTRUNCATE ? FILE_TRUNCATE : FILE_XATTR, result);
		if (!c)
			return 0;
		c->file = (u64)BPF_CORE_READ(req, file);
		c->fd = -1;
		c->request = (u64)req;
		return c->file ? tell_file(c) : 0;
	}
	answer(req, result, result < 0 && !is_denial(result), NULL);
	return 0;
}

SEC("tp_btf/io_uring_complete")
int BPF_PROG(on_answer, void *ring, struct io_kiocb *req)
{
	return req ? done(req) : 0;
}

/* The request that the running task is at, if it is a worker thread. */
static __always_inline struct io_kiocb *current_request(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct io_worker *worker = task->flags & PF_IO_WORKER ? task->worker_private : NULL;
	struct io_wq_work *work = worker ? BPF_CORE_READ(worker, cur_work) : NULL;

	return work ? (void *)work - bpf_core_field_offset(struct io_kiocb, work) : NULL;
}

/*
 * The process has left no room for completions; the event names the request only as the process does. Worker threads meet with it before Linux 6.10;
 * else it is of the batch that is being told.
 */
SEC("tp_btf/io_uring_cqe_overflow")
int BPF_PROG(on_overflow, struct io_ring_ctx *ring, u64 user_data, s32 result)
{
	struct io_kiocb *req = current_request();
	struct batch b = { .user_data = user_data, .result = result };

	if (req && BPF_CORE_READ(req, cqe.user_data) == user_data && BPF_CORE_READ(req, cqe.res) == result)
		return done(req);
	b.node = BPF_CORE_READ(ring, submit_state.compl_reqs.first);
	bpf_loop(MAX_BATCH, find_result, &b, 0);
	return b.found ? done(b.found) : 0;
}
