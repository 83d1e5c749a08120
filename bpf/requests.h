/* SPDX-License-Identifier: GPL-2.0 */
/* What a request to io_uring asks for, and the batch that it is done in: read from the kernel's own structures. */
#pragma once

#include "filenames.h"

/* The bits that the interface has fixed. */
#define REQUEST_FIXED_FILE (1 << 0)
#define REQUEST_SILENT (1 << 6)

/* As in the kernel's interface. */
enum {
	IORING_OP_ACCEPT = 13,
	IORING_OP_CONNECT = 16,
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

#define OPERATION(name) (1ull << IORING_OP_##name)
/* What is looked at, before and after; reads and writes pass the same places. */
#define ASKING                                                                                                         \
	(OPERATION(OPENAT) | OPERATION(OPENAT2) | OPERATION(CLOSE) | OPERATION(RENAMEAT) | OPERATION(UNLINKAT) |       \
	 OPERATION(MKDIRAT) | OPERATION(SYMLINKAT) | OPERATION(LINKAT) | OPERATION(SETXATTR) | OPERATION(FSETXATTR) |  \
	 OPERATION(FTRUNCATE))
#define ANSWERING (ASKING | OPERATION(ACCEPT) | OPERATION(CONNECT))

static __always_inline bool is_one_of(u64 operations, u8 opcode)
{
	return opcode < 64 && operations >> opcode & 1;
}

/* How many requests of a batch are looked at. */
#define MAX_BATCH 4096

/* Requests that are done, in a batch that is told to the process together. */
struct batch {
	struct io_wq_work_node *node;
	struct io_kiocb *found;
	u64 user_data;
	s32 result;
};

static __always_inline struct io_kiocb *request_of(struct io_wq_work_node *node)
{
	return (void *)node - bpf_core_field_offset(struct io_kiocb, comp_list);
}

static long find_result(u32 turn, struct batch *b)
{
	struct io_wq_work_node *node = b->node;

	if (!node)
		return 1;
	struct io_kiocb *req = request_of(node);

	if (READ(req, cqe.user_data) == b->user_data && READ(req, cqe.res) == b->result) {
		b->found = req;
		return 1;
	}
	b->node = READ(node, next);
	return 0;
}

/* The descriptor that a request names, or none: the file may be one of the ring alone. */
static __always_inline u32 descriptor_of(struct io_kiocb *req)
{
	return READ(req, flags) & REQUEST_FIXED_FILE ? -1 : READ(req, cqe.fd);
}

/* The name in a request's structure, by the field: the kernel's copy. */
#define NAME_IN(req, type, field)                                                                                      \
	({                                                                                                             \
		struct type *request = (void *)(req);                                                                  \
		struct type##___delayed *delayed = (void *)(req);                                                      \
		struct filename *name;                                                                                 \
		if (bpf_core_field_exists(delayed->field.__incomplete_filename))                                       \
			name = READ(delayed, field.__incomplete_filename);                                    \
		else                                                                                                   \
			name = READ(request, field);                                                          \
		(u64) READ(name, name);                                                                       \
	})

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
		c->dfd = READ(open, dfd);
		c->name = NAME_IN(req, io_open, filename);
		c->access = access_of(READ(open, how.flags));
		return true;
	case IORING_OP_RENAMEAT:
		c->operation = FILE_RENAME;
		c->dfd = READ(rename, old_dfd);
		c->name = NAME_IN(req, io_rename, oldpath);
		c->dfd2 = READ(rename, new_dfd);
		c->name2 = NAME_IN(req, io_rename, newpath);
		return true;
	case IORING_OP_UNLINKAT:
		c->operation = FILE_UNLINK;
		c->dfd = READ(unlink, dfd);
		c->name = NAME_IN(req, io_unlink, filename);
		c->argument = READ(unlink, flags);
		return true;
	case IORING_OP_MKDIRAT:
		c->operation = FILE_MKDIR;
		c->dfd = READ(mkdir, dfd);
		c->name = NAME_IN(req, io_mkdir, filename);
		c->argument = READ(mkdir, mode);
		return true;
	case IORING_OP_SYMLINKAT:
		c->operation = FILE_SYMLINK;
		c->text = 1;
		c->dfd = READ(link, new_dfd);
		c->name = NAME_IN(req, io_link, newpath);
		c->name2 = NAME_IN(req, io_link, oldpath);
		return true;
	case IORING_OP_LINKAT:
		c->operation = FILE_LINK;
		c->dfd = READ(link, old_dfd);
		c->name = NAME_IN(req, io_link, oldpath);
		c->dfd2 = READ(link, new_dfd);
		c->name2 = NAME_IN(req, io_link, newpath);
		return true;
	case IORING_OP_SETXATTR:
		c->dfd = AT_FDCWD;
		c->name = NAME_IN(req, io_xattr, filename);
		break;
	case IORING_OP_FSETXATTR:
		c->dfd = -1;
		c->fd = descriptor_of(req);
		break;
	case IORING_OP_FTRUNCATE:
		c->operation = FILE_TRUNCATE;
		c->dfd = -1;
		c->fd = descriptor_of(req);
		return true;
	default:
		return false;
	}
	struct xattr_name *name = READ(xattr, ctx.kname);

	c->operation = FILE_XATTR;
	c->text = 1;
	c->name2 = (u64)name;
	return true;
}
