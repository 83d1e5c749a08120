/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Acts of privilege upon the kernel and upon other processes, done or refused: code loaded into the kernel, memory of others, namespaces, signals across
 * users.
 *
 * Hooks: the exits of system calls (syscalls.h), the BTF tracepoint signal_generate
 * for signals, because one call may reach many processes, and sched_process_fork for namespaces made by clone. The arguments are those of the
 * call's registers, and what they point to is read when the call is over. Names of modules come from the tracepoint module_load, in a kernel that
 * has modules.
 */
#pragma once

#include "own.h"
#include "target.h"

enum operation {
	OP_SETUID, OP_SETGID, OP_SETREUID, OP_SETREGID, OP_SETRESUID, OP_SETRESGID, OP_SETFSUID, OP_SETFSGID, OP_CAPSET,
	OP_INIT_MODULE, OP_FINIT_MODULE, OP_DELETE_MODULE, OP_KEXEC_LOAD, OP_KEXEC_FILE_LOAD, OP_BPF_LOAD, OP_BPF_ATTACH,
	OP_PTRACE, OP_PROCESS_VM_READV, OP_PROCESS_VM_WRITEV, OP_PIDFD_GETFD, OP_SETNS, OP_UNSHARE, OP_CLONE, OP_SIGNAL,
	OP_SETGROUPS, OP_IO_URING, OP_BPF_OPEN,
};

static __always_inline bool refused(long ret)
{
	return ret == -EPERM || ret == -EACCES;
}

/* Room in the ring for what the current task did, or was refused; NULL, and counted, when there is none. */
static __always_inline struct privilege_record *privilege(u32 operation, long ret, u32 class)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct privilege_record *r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);

	if (!r) {
		lose(class);
		return NULL;
	}
	__builtin_memset(r, 0, sizeof(*r));
	r->h = header(KIND_PRIVILEGE);
	fill_actor(&r->actor, task);
	fill_ids(&r->ids, task->cred);
	r->operation = operation;
	r->error = ret < 0 ? -ret : 0;
	return r;
}

static __always_inline int told_of(struct privilege_record *r)
{
	bpf_ringbuf_submit(r, wakeup(&events));
	return 0;
}

/* Code in the kernel. */

/* The name of the module that a task is loading: known before the call that loads it is over. */
struct module_name {
	char name[56];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, u64);
	__type(value, struct module_name);
} modules_loaded SEC(".maps");

/* The tracepoint's format: the name lies at an offset from the record's begin. */
struct module_load {
	u64 header;
	u32 taints;
	u32 name;
};

SEC("tp/module/module_load")
int on_module_load(struct module_load *ctx)
{
	u64 key = bpf_get_current_pid_tgid();
	struct module_name name = {};

	bpf_probe_read_kernel_str(name.name, sizeof(name.name), (void *)ctx + (ctx->name & 0xffff));
	bpf_map_update_elem(&modules_loaded, &key, &name, BPF_ANY);
	return 0;
}

static __always_inline int module_added(u32 operation, long ret)
{
	u64 key = bpf_get_current_pid_tgid();
	struct module_name *name = bpf_map_lookup_elem(&modules_loaded, &key);
	struct privilege_record *r = privilege(operation, ret, CLASS_KERNEL);

	if (r) {
		if (name)
			__builtin_memcpy(r->text, name->name, sizeof(name->name));
		else if (operation == OP_FINIT_MODULE)
			put_file_name(r->text, sizeof(r->text), file_of(FIRST(registers())));
		told_of(r);
	}
	bpf_map_delete_elem(&modules_loaded, &key);
	return 0;
}

ON_EXIT
int on_init_module(struct syscall_exit *ctx)
{
	return module_added(OP_INIT_MODULE, ctx->ret);
}

ON_EXIT
int on_finit_module(struct syscall_exit *ctx)
{
	return module_added(OP_FINIT_MODULE, ctx->ret);
}

ON_EXIT
int on_delete_module(struct syscall_exit *ctx)
{
	struct privilege_record *r = privilege(OP_DELETE_MODULE, ctx->ret, CLASS_KERNEL);

	if (!r)
		return 0;
	bpf_probe_read_user_str(r->text, sizeof(r->text), (void *)FIRST(registers()));
	return told_of(r);
}

/* Arguments: how many segments; none of them takes back what was loaded. */
ON_EXIT
int on_kexec_load(struct syscall_exit *ctx)
{
	struct privilege_record *r = privilege(OP_KEXEC_LOAD, ctx->ret, CLASS_KERNEL);

	if (!r)
		return 0;
	r->arguments[0] = SECOND(registers());
	return told_of(r);
}

ON_EXIT
int on_kexec_file_load(struct syscall_exit *ctx)
{
	struct privilege_record *r = privilege(OP_KEXEC_FILE_LOAD, ctx->ret, CLASS_KERNEL);

	if (!r)
		return 0;
	put_file_name(r->text, sizeof(r->text), file_of(FIRST(registers())));
	return told_of(r);
}

/* Whoever has a ring can open and rename files past the system calls that are watched. */
ON_EXIT
int on_io_uring_setup(struct syscall_exit *ctx)
{
	if (ctx->ret < 0 && !refused(ctx->ret))
		return 0;
	struct privilege_record *r = privilege(OP_IO_URING, ctx->ret, CLASS_FILE);

	if (!r)
		return 0;
	r->arguments[0] = FIRST(registers());
	return told_of(r);
}

static __always_inline void fill_bpf_program(struct privilege_record *r, int fd)
{
	struct file *file = file_of(fd);
	struct bpf_prog *program = file ? READ(file, private_data) : NULL;

	if (!program)
		return;
	r->arguments[0] = READ(program, type);
	r->arguments[1] = READ(program, aux, id);
	BPF_CORE_READ_STR_INTO(&r->text, program, aux, name);
}

/* Arguments: the program's type and, where it was taken, its number; the text is its name. */
/* Somebody else asked for a descriptor of one of the recorder's own objects. Arguments: the command, and the object's number. */
static __always_inline int own_object_opened(u32 command, long ret)
{
	u32 number = 0;

	bpf_probe_read_user(&number, sizeof(number), (void *)SECOND(registers()));
	if ((ret < 0 && !refused(ret)) || !is_other() || !is_own_object(command, number))
		return 0;
	struct privilege_record *r = privilege(OP_BPF_OPEN, ret, CLASS_BPF);

	if (!r)
		return 0;
	r->arguments[0] = command;
	r->arguments[1] = number;
	return told_of(r);
}

ON_EXIT
int on_bpf(struct syscall_exit *ctx)
{
	struct pt_regs *regs = registers();
	u32 command = FIRST(regs), words[3] = {};
	const char *attributes = (const char *)SECOND(regs);
	bool load = command == BPF_PROG_LOAD;

	if (command == BPF_PROG_GET_FD_BY_ID || command == BPF_MAP_GET_FD_BY_ID || command == BPF_LINK_GET_FD_BY_ID)
		return own_object_opened(command, ctx->ret);
	if (!load && command != BPF_PROG_ATTACH && command != BPF_LINK_CREATE && command != BPF_RAW_TRACEPOINT_OPEN)
		return 0;
	if (ctx->ret < 0 && !refused(ctx->ret))
		return 0;
	struct privilege_record *r = privilege(load ? OP_BPF_LOAD : OP_BPF_ATTACH, ctx->ret, CLASS_BPF);

	if (!r)
		return 0;
	bpf_probe_read_user(words, sizeof(words), attributes);
	if (load && ctx->ret >= 0) {
		fill_bpf_program(r, ctx->ret);
	} else if (load) {
		r->arguments[0] = words[0];
		bpf_probe_read_user_str(r->text, 16, attributes + __builtin_offsetof(union bpf_attr, prog_name));
	} else if (ctx->ret >= 0) {
		/* raw_tracepoint begins with a pointer, prog_attach with its target, link_create with the program. */
		fill_bpf_program(r, words[command == BPF_RAW_TRACEPOINT_OPEN ? 2 : command == BPF_PROG_ATTACH]);
	}
	return told_of(r);
}
