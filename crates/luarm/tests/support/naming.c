/*
 * Works on names, and says what was really done, told from what became of the files.
 *
 * naming each WAY DIRECTORY   every operation once, by absolute names (`old`: calls without a descriptor, `at`: those with one) or by names relative to a
 *                             descriptor of the directory (`descriptor`); prints nothing
 * naming race DIRECTORY N     every operation N times, while another thread changes the name all the time; prints `operation name [other name]`
 * naming descriptors DIRECTORY N   fchmod N times, while another thread puts one of two files behind the descriptor
 * naming refused DIRECTORY    operations that are refused at different points
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MUST(what)                                                                                                     \
	do {                                                                                                           \
		if ((what) < 0) {                                                                                      \
			perror(#what);                                                                                 \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

static char base[4096];
static int directory = AT_FDCWD;

/* A name in the directory, in one of a few places. */
static const char *in(const char *name)
{
	static char rooms[4][8192];
	static int turn;
	char *room = rooms[turn++ % 4];

	snprintf(room, sizeof(rooms[0]), "%s%s", directory == AT_FDCWD ? base : "", name);
	return room;
}

/* The same for calls that take no descriptor of a directory. */
static const char *absolute(const char *name)
{
	static char rooms[4][8192];
	static int turn;
	char *room = rooms[turn++ % 4];

	if (directory == AT_FDCWD)
		snprintf(room, sizeof(rooms[0]), "%s%s", base, name);
	else
		snprintf(room, sizeof(rooms[0]), "/proc/self/fd/%d/%s", directory, name);
	return room;
}

static void make(const char *name)
{
	int fd = openat(directory, in(name), O_CREAT | O_EXCL | O_WRONLY, 0600);

	MUST(fd);
	MUST(close(fd));
}

static void each(const char *way)
{
	struct timespec times[2] = { { 1, 0 }, { 2, 0 } };
	static char text[3000];
	int old = !strcmp(way, "old");

	if (!strcmp(way, "descriptor")) {
		directory = open(base, O_PATH | O_DIRECTORY);
		MUST(directory);
	}
	memset(text, 't', sizeof(text) - 1);
	make("f");
	MUST(old ? syscall(SYS_mkdir, in("d"), 0750) : mkdirat(directory, in("d"), 0750));
	MUST(old ? syscall(SYS_mknod, in("d/p"), S_IFIFO | 0600, 0) : mknodat(directory, in("d/p"), S_IFIFO | 0600, 0));
	MUST(old ? syscall(SYS_symlink, "short", in("s")) : symlinkat("short", directory, in("s")));
	MUST(old ? syscall(SYS_symlink, text, in("t")) : symlinkat(text, directory, in("t")));
	MUST(old ? syscall(SYS_link, in("f"), in("d/l")) : linkat(directory, in("f"), directory, in("d/l"), 0));
	MUST(old ? syscall(SYS_rename, in("d/l"), in("m")) : renameat(directory, in("d/l"), directory, in("m")));
	MUST(old ? syscall(SYS_chmod, in("m"), 0640) : fchmodat(directory, in("m"), 0640, 0));
	MUST(old ? syscall(SYS_chown, in("m"), 7, -1) : fchownat(directory, in("m"), 7, -1, 0));
	MUST(setxattr(absolute("m"), "trusted.mark", "x", 1, 0));
	MUST(removexattr(absolute("m"), "trusted.mark"));
	MUST(truncate(absolute("m"), 2));
	MUST(utimensat(directory, in("m"), times, 0));
	int fd = openat(directory, in("m"), O_RDWR);

	MUST(fd);
	MUST(fchmod(fd, 0600));
	MUST(fchown(fd, -1, 7));
	MUST(fsetxattr(fd, "trusted.other", "x", 1, 0));
	MUST(ftruncate(fd, 1));
	MUST(futimens(fd, times));
	MUST(close(fd));
	MUST(old ? syscall(SYS_unlink, in("d/p")) : unlinkat(directory, in("d/p"), 0));
	MUST(old ? syscall(SYS_rmdir, in("d")) : unlinkat(directory, in("d"), AT_REMOVEDIR));
}

/* Where the other thread changes a letter: `a` and `b` in turn. */
static char *volatile letters[2];
static volatile int over;

static void *change(void *unused)
{
	for (char letter = 'a'; !over; letter ^= 'a' ^ 'b') {
		for (int i = 0; i < 2; i++) {
			volatile char *at = letters[i];

			if (at)
				*at = letter;
		}
	}
	return NULL;
}

static const char *const ACTS[] = { "mkdir", "mknod", "symlink", "link",  "rename", "chmod",
				    "chown", "xattr", "truncate", "utimes", "unlink", "rmdir" };
enum { MKDIR, MKNOD, SYMLINK, LINK, RENAME, CHMOD, CHOWN, XATTR, TRUNCATE, UTIMES, UNLINK, RMDIR, COUNT };

/* The name that begins with this letter. */
static const char *called(char letter, int n, const char *end)
{
	static char rooms[8][8192];
	static int turn;
	char *room = rooms[turn++ % 8];

	snprintf(room, sizeof(rooms[0]), "%s%c%d%s", base, letter, n, end);
	return room;
}

static int is_changed(int act, const char *name)
{
	struct stat s;
	char value;
	int there = lstat(name, &s) == 0;

	switch (act) {
	case CHMOD: return (s.st_mode & 07777) == 0444;
	case CHOWN: return s.st_uid == 7;
	case XATTR: return getxattr(name, "trusted.mark", &value, 1) == 1;
	case TRUNCATE: return s.st_size == 5;
	case UTIMES: return s.st_mtime == 2;
	case UNLINK: case RMDIR: case RENAME: return !there;
	default: return there;
	}
}

static void act_once(int act, int n)
{
	struct timespec times[2] = { { 1, 0 }, { 2, 0 } };
	static char name[8192], other[8192];

	for (char letter = 'a'; letter <= 'b'; letter++) {
		if (act >= LINK && act != RMDIR) {
			int fd = open(called(letter, n, ""), O_CREAT | O_EXCL | O_WRONLY, 0600);

			MUST(fd);
			MUST(close(fd));
		} else if (act == RMDIR) {
			MUST(mkdir(called(letter, n, ""), 0700));
		}
	}
	strcpy(name, called('a', n, ""));
	strcpy(other, called('a', n, "-new"));
	letters[0] = name + strlen(base);
	letters[1] = other + strlen(base);
	/* Until the other thread has taken them up. */
	while (*(volatile char *)letters[1] == 'a')
		;
	switch (act) {
	case MKDIR: MUST(mkdir(name, 0700)); break;
	case MKNOD: MUST(mknod(name, S_IFIFO | 0600, 0)); break;
	case SYMLINK: MUST(symlink("text", name)); break;
	case LINK: MUST(link(name, other)); break;
	case RENAME: MUST(rename(name, other)); break;
	case CHMOD: MUST(chmod(name, 0444)); break;
	case CHOWN: MUST(chown(name, 7, -1)); break;
	case XATTR: MUST(setxattr(name, "trusted.mark", "x", 1, 0)); break;
	case TRUNCATE: MUST(truncate(name, 5)); break;
	case UTIMES: MUST(utimensat(AT_FDCWD, name, times, 0)); break;
	case UNLINK: MUST(unlink(name)); break;
	case RMDIR: MUST(rmdir(name)); break;
	}
	letters[0] = letters[1] = NULL;
	for (char letter = 'a'; letter <= 'b'; letter++) {
		const char *own = called(letter, n, "");
		struct stat s;

		if (act == LINK ? lstat(own, &s) || s.st_nlink != 2 : !is_changed(act, own))
			continue;
		printf("%s %s", ACTS[act], own + strlen(base));
		for (char to = 'a'; (act == LINK || act == RENAME) && to <= 'b'; to++)
			if (lstat(called(to, n, "-new"), &s) == 0)
				printf(" %c%d-new", to, n);
		printf("\n");
	}
}

static void race(int times)
{
	pthread_t thread;

	MUST(-pthread_create(&thread, NULL, change, NULL));
	for (int i = 0; i < times * COUNT; i++)
		act_once(i % COUNT, i);
	over = 1;
	pthread_join(thread, NULL);
}

static int files[2], moving;

static void *move_descriptors(void *unused)
{
	for (int i = 0; !over; i ^= 1)
		MUST(dup2(files[i], moving));
	return NULL;
}

static void race_descriptors(int times)
{
	pthread_t thread;

	for (int i = 0; i < 2; i++) {
		files[i] = open(called('a' + i, 0, ""), O_CREAT | O_EXCL | O_RDWR, 0600);
		MUST(files[i]);
	}
	moving = dup(files[0]);
	MUST(-pthread_create(&thread, NULL, move_descriptors, NULL));
	for (int i = 0; i < times; i++) {
		struct stat s[2];

		MUST(fchmod(moving, 0400 + i));
		for (int which = 0; which < 2; which++) {
			MUST(fstat(files[which], &s[which]));
			if ((s[which].st_mode & 07777) == 0400 + i)
				printf("chmod %c0\n", 'a' + which);
		}
	}
	over = 1;
	pthread_join(thread, NULL);
}

static void refused(void)
{
	MUST(mkdir(called('a', 0, ""), 0755));
	MUST(mkdir(called('a', 0, "/full"), 0755));
	MUST(mkdir(called('a', 0, "/full/shut"), 0700));
	make("a0/kept");
	/* Nobody is told of this; it must not be taken for what follows. */
	if (rmdir(called('a', 0, "/full")) == 0 || errno != ENOTEMPTY)
		exit(2);
	MUST(setresuid(65534, 65534, 65534));
	/* Found, and then refused. */
	if (unlink(called('a', 0, "/kept")) == 0 || errno != EACCES || chmod(called('a', 0, "/kept"), 0777) == 0 || errno != EPERM)
		exit(3);
	/* Refused on the way. */
	if (rmdir(called('a', 0, "/full/shut/x")) == 0 || errno != EACCES)
		exit(4);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 64;
	snprintf(base, sizeof(base), "%s/", argv[!strcmp(argv[1], "each") ? 3 : 2]);
	if (!strcmp(argv[1], "each"))
		each(argv[2]);
	else if (!strcmp(argv[1], "race"))
		race(atoi(argv[3]));
	else if (!strcmp(argv[1], "descriptors"))
		race_descriptors(atoi(argv[3]));
	else if (!strcmp(argv[1], "refused"))
		refused();
	else
		return 64;
	return 0;
}
