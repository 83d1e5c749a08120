/*
 * Does what it is told, act after act, and writes down what the kernel answered: `actor setuid 0 , kill 7 15` gives two lines, each an error number
 * (0: done) and what else there is to say.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static char memory[4096] = "as it was";
static int program = -1;

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static long load(int type)
{
	/* r0 = 0; exit */
	struct bpf_insn code[] = { { .code = 0xb7 }, { .code = 0x95 } };
	union bpf_attr attr = { .prog_type = type, .insn_cnt = 2, .insns = (long)code, .license = (long)"GPL", .prog_name = "nothing" };

	return program = bpf(BPF_PROG_LOAD, &attr);
}

static int program_id(void)
{
	struct bpf_prog_info info = {};
	union bpf_attr attr = { .info.bpf_fd = program, .info.info_len = sizeof(info), .info.info = (long)&info };

	return bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) ? -1 : (int)info.id;
}

static long attach(void)
{
	union bpf_attr attr = { .raw_tracepoint.name = (long)"signal_generate", .raw_tracepoint.prog_fd = program };

	return bpf(BPF_RAW_TRACEPOINT_OPEN, &attr);
}

static long drop(int capability)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	syscall(SYS_capget, &header, data);
	data[0].effective &= ~(1u << capability);
	return syscall(SYS_capset, &header, data);
}

/* Everything, whether it has it or not. */
static long grab(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { ~0u, ~0u, 0 }, { 0x1ff, 0x1ff, 0 } };

	return syscall(SYS_capset, &header, data);
}

static long copy(long call, int pid, long at)
{
	char own[9] = "changed!";
	struct iovec here = { own, sizeof(own) }, there = { (void *)at, sizeof(own) };

	return syscall(call, pid, &here, 1, &there, 1, 0);
}

static long queue(int pid, int number, int code)
{
	siginfo_t info = { .si_signo = number, .si_code = code };

	return syscall(SYS_rt_sigqueueinfo, pid, number, &info);
}

static long child(long flags, int *pid)
{
	*pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	if (*pid == 0)
		_exit(0);
	return *pid < 0 ? -1 : waitpid(*pid, NULL, 0);
}

static unsigned long space(const char *kind)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
	return stat(path, &st) ? 0 : st.st_ino;
}

static long number(char **words, int n)
{
	return words[n] ? strtol(words[n], NULL, 0) : 0;
}

static void act(char **words)
{
	const char *what = words[0];
	long a = number(words, 1), b = words[1] ? number(words, 2) : 0, c = words[1] && words[2] ? number(words, 3) : 0, r = -1;
	int pid = 0;
	char more[200] = "";

	errno = 0;
#define ACT(name) else if (!strcmp(what, name))
	if (!strcmp(what, "victim")) {
		printf("%d %ld\n", (int)getpid(), (long)memory);
		fflush(stdout);
		for (;;)
			pause();
	}
	ACT("setuid") r = syscall(SYS_setuid, a);
	ACT("setresuid") r = syscall(SYS_setresuid, a, b, c);
	ACT("setgroups") {
		gid_t groups[] = { a, b, 27 };

		r = setgroups(c, groups);
	}
	ACT("drop") r = drop(a);
	ACT("grab") r = grab();
	ACT("kill") r = kill(a, b);
	ACT("tgkill") r = syscall(SYS_tgkill, a, a, b);
	ACT("queue") r = queue(a, b, c);
	ACT("pidfd_kill") r = syscall(SYS_pidfd_send_signal, syscall(SYS_pidfd_open, a, 0), b, NULL, 0);
	ACT("attach") {
		r = ptrace(PTRACE_ATTACH, a, 0, 0);
		if (r == 0)
			waitpid(a, NULL, __WALL);
	}
	ACT("seize") r = ptrace(PTRACE_SEIZE, a, 0, 0);
	ACT("poke") r = ptrace(PTRACE_POKEDATA, a, b, c);
	ACT("peek") { errno = 0; ptrace(PTRACE_PEEKDATA, a, b, 0); r = errno ? -1 : 0; }
	ACT("detach") r = ptrace(PTRACE_DETACH, a, 0, 0);
	ACT("writev") r = copy(SYS_process_vm_writev, a, b);
	ACT("readv") r = copy(SYS_process_vm_readv, a ? a : getpid(), a ? b : (long)memory);
	ACT("getfd") r = syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, a, 0), b, 0);
	ACT("unshare") {
		r = unshare(a);
		snprintf(more, sizeof(more), "%lu %lu %lu", space("uts"), space("ipc"), space("user"));
	}
	ACT("setns") r = setns(open(words[1], O_RDONLY), b);
	ACT("pidfd_setns") r = setns(syscall(SYS_pidfd_open, a, 0), b);
	ACT("clone") {
		r = child(a, &pid);
		snprintf(more, sizeof(more), "%d", pid);
	}
	ACT("load") {
		r = load(a);
		if (r >= 0)
			snprintf(more, sizeof(more), "%d", program_id());
	}
	ACT("bpf_attach") r = attach();
	ACT("finit_module") r = syscall(SYS_finit_module, open(words[1], O_RDONLY), "", 0);
	ACT("many_kills") {
		for (long n = 0; n < c; n++)
			r = kill(a, b);
	}
	else {
		exit(2);
	}
	printf("%d %s\n", r < 0 ? errno : 0, more);
}

int main(int argc, char **argv)
{
	argv++;
	while (*argv) {
		char **words = argv;

		while (*argv && strcmp(*argv, ","))
			argv++;
		if (*argv)
			*argv++ = NULL;
		act(words);
	}
	return argc < 2;
}
