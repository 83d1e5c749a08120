/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is done with files through io_uring.
 *
 * Hooks: the BTF tracepoints io_uring_submit_req (io_uring_submit_sqe before Linux 6.4), where a request has been taken in and the kernel has copied
 * its names, so that nobody can change them any more, and io_uring_complete, where its result is known. By then the names are gone:
 * both halves are told, and the recorder puts them together. A request may be worked on by a thread of the kernel's own; these belong to
 * the process. Not seen: the result of a request that asked for no completion, unless it fails; which file it is that a request opens for the ring
 * alone, without a descriptor, and when it is closed: both are told of by name.
 */
#pragma once

#include "filenames.h"
#include "tcp.h"

#define REQUEST_FIXED_FILE (1 << 0)
#define REQUEST_SILENT (1 << 6)

/* As in the kernel's interface. */
enum {
	IORING_OP_ACCEPT = 13,
	IORING_OP_OPENAT = 18,
	IORING_OP_CLOSE = 19,
	IORING_OP_OPENAT2 = 28,
	IORING_OP_RENAMEAT = 35,
	IORING_OP_UNLINKAT = 36,
	IORING_OP_MKDIRAT = 37,
	IORING_OP_SYMLINKAT = 38,
	IORING_OP_LINKAT = 39,
	IORING_OP_FSETXATTR = 41,
	IORING_OP_SETXATTR = 42,
	IORING_OP_FTRUNCATE = 55,
};

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

/* Requests that are done and hold their file until the batch is. */
struct holders {
	struct io_wq_work_node *node;
	struct file *file;
	u32 count;
};

static long hold(u32 turn, struct holders *h)
{
	struct io_wq_work_node *node = h->node;

	if (!node)
		return 1;
	struct io_kiocb *req = (void *)node - bpf_core_field_offset(struct io_kiocb, comp_list);

	if (BPF_CORE_READ(req, file) == h->file && !(BPF_CORE_READ(req, flags) & REQUEST_FIXED_FILE))
		h->count++;
	h->node = BPF_CORE_READ(node, next);
	return 0;
}

/* Whether nobody has the file open any more, or `left` at the most. */
static __always_inline bool is_left(struct file *file, struct io_kiocb *req, long left)
{
	long refer = references(file);

	if (refer <= left)
		return true;
	struct io_ring_ctx *ring = BPF_CORE_READ(req, ctx);
	struct holders h = { .file = file };

	h.node = BPF_CORE_READ(ring, submit_state.compl_reqs.first);
	bpf_loop(1024, hold, &h, 0);
	return refer <= left + h.count;
}

static __always_inline void close_asked(struct io_kiocb *req)
{
	struct io_close *close = (void *)req;
	u64 key = (u64)req;

	if (BPF_CORE_READ(close, file_slot))
		return;
	struct file *file = file_of(BPF_CORE_READ(close, fd));
	u64 address = (u64)file;

	if (!file || !bpf_map_lookup_elem(&opened, &address))
		return;
	if (!(BPF_CORE_READ(req, flags) & REQUEST_SILENT))
		bpf_map_update_elem(&closes, &key, &address, BPF_ANY);
	else if (is_left(file, req, 1))
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
	if (result == 0 && is_left(file, req, 0))
		end_access(address, file, false);
}

static __always_inline u32 access_of(u64 flags)
{
	return (flags & 3) == 0 ? ACCESS_READ : (flags & 3) == 1 ? ACCESS_WRITE : ACCESS_READ | ACCESS_WRITE;
}

/* What the request asks for; false where it is nothing to tell of. */
static __always_inline bool fill_request(struct call *c, struct io_kiocb *req, u8 opcode)
{
	struct io_open *open = (void *)req;
	struct io_rename *rename = (void *)req;
	struct io_unlink *unlink = (void *)req;
	struct io_mkdir *mkdir = (void *)req;
	struct io_link *link = (void *)req;
	struct io_xattr *xattr = (void *)req;

	switch (opcode) {
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2:
		c->operation = FILE_OPEN;
		c->dfd = BPF_CORE_READ(open, dfd);
		c->name = (u64)BPF_CORE_READ(open, filename, name);
		c->access = access_of(BPF_CORE_READ(open, how.flags));
		return true;
	case IORING_OP_RENAMEAT:
		c->operation = FILE_RENAME;
		c->dfd = BPF_CORE_READ(rename, old_dfd);
		c->name = (u64)BPF_CORE_READ(rename, oldpath, name);
		c->dfd2 = BPF_CORE_READ(rename, new_dfd);
		c->name2 = (u64)BPF_CORE_READ(rename, newpath, name);
		return true;
	case IORING_OP_UNLINKAT:
		c->operation = FILE_UNLINK;
		c->dfd = BPF_CORE_READ(unlink, dfd);
		c->name = (u64)BPF_CORE_READ(unlink, filename, name);
		c->argument = BPF_CORE_READ(unlink, flags);
		return true;
	case IORING_OP_MKDIRAT:
		c->operation = FILE_MKDIR;
		c->dfd = BPF_CORE_READ(mkdir, dfd);
		c->name = (u64)BPF_CORE_READ(mkdir, filename, name);
		c->argument = BPF_CORE_READ(mkdir, mode);
		return true;
	case IORING_OP_SYMLINKAT:
		c->operation = FILE_SYMLINK;
		c->text = 1;
		c->dfd = BPF_CORE_READ(link, new_dfd);
		c->name = (u64)BPF_CORE_READ(link, newpath, name);
		c->name2 = (u64)BPF_CORE_READ(link, oldpath, name);
		return true;
	case IORING_OP_LINKAT:
		c->operation = FILE_LINK;
		c->dfd = BPF_CORE_READ(link, old_dfd);
		c->name = (u64)BPF_CORE_READ(link, oldpath, name);
		c->dfd2 = BPF_CORE_READ(link, new_dfd);
		c->name2 = (u64)BPF_CORE_READ(link, newpath, name);
		return true;
	case IORING_OP_SETXATTR:
		c->dfd = AT_FDCWD;
		c->name = (u64)BPF_CORE_READ(xattr, filename, name);
		break;
	case IORING_OP_FSETXATTR:
		c->dfd = -1;
		break;
	case IORING_OP_FTRUNCATE:
		c->operation = FILE_TRUNCATE;
		c->dfd = -1;
		return true;
	default:
		return false;
	}
	struct xattr_name *name = BPF_CORE_READ(xattr, ctx.kname);

	c->operation = FILE_XATTR;
	c->text = 1;
	c->name2 = (u64)name;
	return true;
}

SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(on_request, struct io_kiocb *req)
{
	u8 opcode = req->opcode;

	/* Reads and writes pass here too. */
	if (opcode < IORING_OP_OPENAT || opcode > IORING_OP_FTRUNCATE)
		return 0;
	if (opcode == IORING_OP_CLOSE) {
		close_asked(req);
		return 0;
	}
	struct call *c = stage(FILE_OPEN, 0);

	if (!c || !fill_request(c, req, opcode))
		return 0;
	u32 flags = BPF_CORE_READ(req, flags), only = 0, *creds = bpf_map_lookup_elem(&request_creds, &only);

	c->request = (u64)req;
	c->flags = FILE_ASKED;
	if (flags & REQUEST_SILENT)
		c->flags |= FILE_SILENT;
	if (creds && flags & *creds)
		c->creds = (u64)BPF_CORE_READ(req, creds);
	tell_name(c);
	return 0;
}

static __always_inline void answer(struct io_kiocb *req, s32 result, bool untold)
{
	struct answer_record r = { .h = header(KIND_FILE_ANSWER), .request = (u64)req };

	r.result = result < 0 ? -result : 0;
	r.untold = untold;
	give(&r, sizeof(r), CLASS_FILE);
}

SEC("tp_btf/io_uring_complete")
int BPF_PROG(on_answer, void *ring, struct io_kiocb *req)
{
	u8 opcode = req ? BPF_CORE_READ(req, opcode) : 0;

	if (opcode < IORING_OP_ACCEPT || opcode > IORING_OP_FTRUNCATE)
		return 0;
	struct io_open *open = (void *)req;
	struct io_accept *accept = (void *)req;
	s32 result = BPF_CORE_READ(req, cqe.res);
	struct call *c;

	switch (opcode) {
	case IORING_OP_CLOSE:
		close_done(req, result);
		return 0;
	case IORING_OP_ACCEPT:
		return BPF_CORE_READ(accept, file_slot) ? 0 : accepted(result);
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2:
		/* Without a descriptor, or when it is closed again already, its name is all there is. */
		if (result < 0 || BPF_CORE_READ(open, file_slot) || !file_of(result))
			break;
		c = stage(FILE_OPEN, 0);
		if (!c)
			return 0;
		c->fd = result;
		c->request = (u64)req;
		if (has_opened(c, BPF_CORE_READ(open, how.flags)))
			return tell_file(c);
		answer(req, 0, true);
		return 0;
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
	case IORING_OP_RENAMEAT:
	case IORING_OP_UNLINKAT:
	case IORING_OP_MKDIRAT:
	case IORING_OP_SYMLINKAT:
	case IORING_OP_LINKAT:
	case IORING_OP_SETXATTR:
		break;
	default:
		return 0;
	}
	answer(req, result, !is_worth(result) && result < 0);
	return 0;
}
