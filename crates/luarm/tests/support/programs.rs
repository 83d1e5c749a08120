//! Small programs that the storms run, compiled by the test: what they do is known to the byte.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Ends at once, with its first argument's number as exit code. No C library: it starts in microseconds.
const EXIT: &str = r#"
static long call(long n, long a)
{
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a) : "rcx", "r11", "memory");
	return r;
}
__attribute__((used)) static void run(long *stack)
{
	char **argv = (char **)(stack + 1);
	int code = 0;

	for (char *c = stack[0] > 1 ? argv[1] : ""; *c >= '0' && *c <= '9'; c++)
		code = code * 10 + *c - '0';
	call(231, code);
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call run\n");
"#;

/// Connects to a port of 127.0.0.1 as often as it is told, each time sends its pid and the port that it was given, and writes both down.
const CONNECT: &str = r#"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	for (int i = 0; i < atoi(argv[2]); i++) {
		struct sockaddr_in own;
		socklen_t len = sizeof(own);
		char line[64];
		int s = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(s, (struct sockaddr *)&to, sizeof(to)) || getsockname(s, (struct sockaddr *)&own, &len))
			return 1;
		int n = snprintf(line, sizeof(line), "%d %d\n", (int)getpid(), ntohs(own.sin_port));
		if (write(s, line, n) != n || write(1, line, n) != n)
			return 1;
		shutdown(s, SHUT_WR);
		while (read(s, line, sizeof(line)) > 0)
			;
		close(s);
	}
	return 0;
}
"#;

/// Makes, reads, changes, renames and removes files as often as it is told, in the directory that it is told.
const FILES: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	char name[64], other[64], room[128] = { 0 };

	if (chdir(argv[1]))
		return 1;
	for (int i = 0; i < atoi(argv[2]); i++) {
		snprintf(name, sizeof(name), "%d-%d", (int)getpid(), i);
		snprintf(other, sizeof(other), "%d-%d.new", (int)getpid(), i);
		int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
		if (fd < 0 || write(fd, room, i % 97) != i % 97 || close(fd))
			return 2;
		fd = open(name, O_RDONLY);
		if (fd < 0 || read(fd, room, sizeof(room)) != i % 97 || close(fd))
			return 3;
		if (chmod(name, i % 512) || rename(name, other) || unlink(other))
			return 4;
	}
	return 0;
}
"#;

fn compile(source: &str, output: &Path, flags: &[&str]) {
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-static", "-x", "c", "-"]).args(flags).arg("-o").arg(output);
    let mut child = cc.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// The program that exits.
pub fn exit_program(dir: &Path) -> PathBuf {
    let path = dir.join("quit");
    compile(EXIT, &path, &["-nostdlib"]);
    path
}

/// The program that works on files.
pub fn files_program(dir: &Path) -> PathBuf {
    let path = dir.join("filer");
    compile(FILES, &path, &[]);
    path
}

/// The program that connects.
pub fn connect_program(dir: &Path) -> PathBuf {
    let path = dir.join("connector");
    compile(CONNECT, &path, &[]);
    path
}

/// The program that does what it is told, act after act.
pub fn acting_program(dir: &Path) -> PathBuf {
    let path = dir.join("actor");
    compile(include_str!("acts.c"), &path, &[]);
    path
}

/// The program that uses the kernel's door for 32-bit programs.
pub fn compat_program(dir: &Path, flags: &[&str]) -> PathBuf {
    let path = dir.join("narrow");
    compile(
        include_str!("compat.c"),
        &path,
        &[&["-nostdlib", "-ffreestanding", "-fno-pie", "-fno-stack-protector"], flags].concat(),
    );
    path
}

/// The program that takes a recorder's programs away.
pub fn unplugging_program(dir: &Path) -> PathBuf {
    let path = dir.join("unplug");
    compile(include_str!("unplug.c"), &path, &[]);
    path
}

/// The program that works on names.
pub fn naming_program(dir: &Path) -> PathBuf {
    let path = dir.join("naming");
    compile(include_str!("naming.c"), &path, &["-pthread"]);
    path
}

/// The program that works through io_uring.
pub fn ring_program(dir: &Path) -> PathBuf {
    let path = dir.join("ring");
    compile(include_str!("ring.c"), &path, &[]);
    path
}
