/*
 * Does with files what its script says, through a ring or by system calls: `ring MODE SCRIPT` reads one operation a line, `NAME ARGUMENTS…`.
 *
 * MODE: `call`, system calls; `ring`, one request after the other; `async`, by the kernel's worker threads; `sqpoll`, by a kernel thread that
 * polls; `defer`, results only when asked for; `batch`, all at once and in order; `chain`, each linked to the one before; `silent`, without a completion
 * of success and linked; `overflow`, with no room for completions, and linked; `swap`, the first by a worker
 * thread whose result is asked for only when its descriptor has been given to the second, a system call; `table`, with room for files of the
 * ring alone; `lend`, as `nobody` who has the rights of root for his requests alone. Prints each result that it is told, in the order of the script.
 *
 * `ring storm ROUNDS` makes, renames and removes that many files and directories, many at once. `ring accept PORT` listens there, and a child, whose
 * number it prints, accepts one connection through a ring. `ring connect PORT` connects to there on no host.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef IORING_OP_FTRUNCATE
#define IORING_OP_FTRUNCATE 55
#endif
#define OP_FSETXATTR 41
#define OP_SETXATTR 42
#define SETUP_SINGLE_ISSUER (1U << 12)
#define SETUP_DEFER_TASKRUN (1U << 13)
#define ENTRIES 64
#define LINES 256
/* How many requests of a storm are made at once. */
#define WIDTH 10

struct operation {
	char *words[5];
};

static struct operation script[LINES];
static int lines, results[LINES], told[LINES], personality;
static int last_fd = -1;

static struct {
	int fd;
	unsigned *sq_tail, *sq_mask, *sq_array, *sq_flags, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	unsigned flags;
} ring;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static long number(const char *word)
{
	return word ? strtol(word, NULL, 0) : 0;
}

static void set_up(unsigned flags, unsigned cq)
{
	struct io_uring_params p = { .flags = flags, .cq_entries = cq, .sq_thread_idle = 1000 };

	ring.fd = syscall(SYS_io_uring_setup, ENTRIES, &p);
	if (ring.fd < 0)
		fail("io_uring_setup");
	size_t sq_size = p.sq_off.array + p.sq_entries * 4, cq_size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	char *sq = mmap(NULL, sq_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
	char *cq_ring = mmap(NULL, cq_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_CQ_RING);

	ring.sqes = mmap(NULL, p.sq_entries * sizeof(*ring.sqes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq_ring == MAP_FAILED || ring.sqes == MAP_FAILED)
		fail("mmap");
	ring.sq_tail = (unsigned *)(sq + p.sq_off.tail);
	ring.sq_mask = (unsigned *)(sq + p.sq_off.ring_mask);
	ring.sq_flags = (unsigned *)(sq + p.sq_off.flags);
	ring.sq_array = (unsigned *)(sq + p.sq_off.array);
	ring.cq_head = (unsigned *)(cq_ring + p.cq_off.head);
	ring.cq_tail = (unsigned *)(cq_ring + p.cq_off.tail);
	ring.cq_mask = (unsigned *)(cq_ring + p.cq_off.ring_mask);
	ring.cqes = (struct io_uring_cqe *)(cq_ring + p.cq_off.cqes);
	ring.flags = flags;
}

static struct io_uring_sqe *request(void)
{
	unsigned tail = *ring.sq_tail, at = tail & *ring.sq_mask;
	struct io_uring_sqe *sqe = &ring.sqes[at];

	memset(sqe, 0, sizeof(*sqe));
	ring.sq_array[at] = at;
	return sqe;
}

static void queue(void)
{
	__atomic_store_n(ring.sq_tail, *ring.sq_tail + 1, __ATOMIC_RELEASE);
}

static void enter(unsigned submit, unsigned wait)
{
	unsigned flags = wait ? IORING_ENTER_GETEVENTS : 0;

	if (ring.flags & IORING_SETUP_SQPOLL && submit)
		flags |= IORING_ENTER_SQ_WAKEUP;
	if (syscall(SYS_io_uring_enter, ring.fd, submit, wait, flags, NULL, 0) < 0)
		fail("io_uring_enter");
}

static int completion(void)
{
	unsigned head = *ring.cq_head;

	if (head == __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE))
		return 0;
	struct io_uring_cqe *cqe = &ring.cqes[head & *ring.cq_mask];

	if (cqe->user_data < LINES) {
		results[cqe->user_data] = cqe->res;
		told[cqe->user_data] = 1;
	}
	__atomic_store_n(ring.cq_head, head + 1, __ATOMIC_RELEASE);
	return 1;
}

/* `-` is the descriptor that was opened last, `+` the one that will be opened next. */
static int descriptor(const char *word)
{
	return *word == '+' ? ring.fd + 1 : *word == '-' ? last_fd : number(word);
}

static void fill(struct io_uring_sqe *sqe, struct operation *o)
{
	static struct open_how how[LINES];
	static const char text[] = "0123456789abcdef";
	char **w = o->words;
	const char *name = w[0];

	sqe->fd = AT_FDCWD;
	sqe->addr = (unsigned long)w[1];
	if (!strcmp(name, "open") || !strcmp(name, "direct")) {
		sqe->opcode = IORING_OP_OPENAT;
		sqe->open_flags = number(w[2]);
		sqe->len = number(w[3]);
		sqe->file_index = *name == 'd' ? 1 : 0;
	} else if (!strcmp(name, "open2")) {
		how[o - script] = (struct open_how){ .flags = number(w[2]), .mode = number(w[3]) };
		sqe->opcode = IORING_OP_OPENAT2;
		sqe->addr2 = (unsigned long)&how[o - script];
		sqe->len = sizeof(how[0]);
	} else if (!strcmp(name, "write")) {
		sqe->opcode = IORING_OP_WRITE;
		sqe->fd = descriptor(w[1]);
		sqe->addr = (unsigned long)text;
		sqe->len = number(w[2]);
		sqe->off = -1;
	} else if (!strcmp(name, "close")) {
		sqe->opcode = IORING_OP_CLOSE;
		sqe->fd = descriptor(w[1]);
		sqe->addr = 0;
	} else if (!strcmp(name, "ftruncate")) {
		sqe->opcode = IORING_OP_FTRUNCATE;
		sqe->fd = descriptor(w[1]);
		sqe->addr = 0;
		sqe->off = number(w[2]);
	} else if (!strcmp(name, "rename")) {
		sqe->opcode = IORING_OP_RENAMEAT;
		sqe->len = AT_FDCWD;
		sqe->addr2 = (unsigned long)w[2];
	} else if (!strcmp(name, "link")) {
		sqe->opcode = IORING_OP_LINKAT;
		sqe->len = AT_FDCWD;
		sqe->addr2 = (unsigned long)w[2];
	} else if (!strcmp(name, "symlink")) {
		sqe->opcode = IORING_OP_SYMLINKAT;
		sqe->addr2 = (unsigned long)w[2];
	} else if (!strcmp(name, "unlink") || !strcmp(name, "rmdir")) {
		sqe->opcode = IORING_OP_UNLINKAT;
		sqe->unlink_flags = *name == 'r' ? AT_REMOVEDIR : 0;
	} else if (!strcmp(name, "mkdir")) {
		sqe->opcode = IORING_OP_MKDIRAT;
		sqe->len = number(w[2]);
	} else if (!strcmp(name, "setxattr")) {
		sqe->opcode = OP_SETXATTR;
		sqe->addr = (unsigned long)w[2];
		sqe->addr2 = (unsigned long)w[3];
		sqe->addr3 = (unsigned long)w[1];
		sqe->len = strlen(w[3]);
	} else if (!strcmp(name, "fsetxattr")) {
		sqe->opcode = OP_FSETXATTR;
		sqe->fd = descriptor(w[1]);
		sqe->addr = (unsigned long)w[2];
		sqe->addr2 = (unsigned long)w[3];
		sqe->len = strlen(w[3]);
	} else {
		fprintf(stderr, "no operation %s\n", name);
		exit(1);
	}
}

static int call(struct operation *o)
{
	char **w = o->words;
	const char *name = w[0];
	long r = -1;

	if (!strcmp(name, "open"))
		r = openat(AT_FDCWD, w[1], number(w[2]), number(w[3]));
	else if (!strcmp(name, "open2")) {
		struct open_how how = { .flags = number(w[2]), .mode = number(w[3]) };

		r = syscall(SYS_openat2, AT_FDCWD, w[1], &how, sizeof(how));
	} else if (!strcmp(name, "write"))
		r = write(descriptor(w[1]), "0123456789abcdef", number(w[2]));
	else if (!strcmp(name, "close"))
		r = close(descriptor(w[1]));
	else if (!strcmp(name, "ftruncate"))
		r = ftruncate(descriptor(w[1]), number(w[2]));
	else if (!strcmp(name, "rename"))
		r = renameat(AT_FDCWD, w[1], AT_FDCWD, w[2]);
	else if (!strcmp(name, "link"))
		r = linkat(AT_FDCWD, w[1], AT_FDCWD, w[2], 0);
	else if (!strcmp(name, "symlink"))
		r = symlinkat(w[1], AT_FDCWD, w[2]);
	else if (!strcmp(name, "unlink"))
		r = unlinkat(AT_FDCWD, w[1], 0);
	else if (!strcmp(name, "rmdir"))
		r = unlinkat(AT_FDCWD, w[1], AT_REMOVEDIR);
	else if (!strcmp(name, "mkdir"))
		r = mkdirat(AT_FDCWD, w[1], number(w[2]));
	else if (!strcmp(name, "setxattr"))
		r = setxattr(w[1], w[2], w[3], strlen(w[3]), 0);
	else if (!strcmp(name, "fsetxattr"))
		r = fsetxattr(descriptor(w[1]), w[2], w[3], strlen(w[3]), 0);
	else {
		fprintf(stderr, "no operation %s\n", name);
		exit(1);
	}
	return r < 0 ? -errno : r;
}

static void submit(int line, unsigned flags)
{
	struct io_uring_sqe *sqe = request();

	fill(sqe, &script[line]);
	sqe->user_data = line;
	sqe->flags = flags;
	sqe->personality = personality;
	queue();
}

static void is_opened(int line)
{
	if (!strncmp(script[line].words[0], "open", 4) && results[line] >= 0)
		last_fd = results[line];
}

/* One after the other, and each result is awaited. */
static void steps(unsigned flags)
{
	for (int i = 0; i < lines; i++) {
		submit(i, flags);
		enter(1, 1);
		while (!told[i])
			if (!completion())
				enter(0, 1);
		is_opened(i);
	}
}

/* All at once; nothing is awaited. */
static void together(unsigned flags, unsigned last)
{
	for (int i = 0; i < lines; i++)
		submit(i, i == lines - 1 ? last : flags);
	enter(lines, 0);
}

static void await(int wanted)
{
	while (wanted > 0)
		if (completion())
			wanted--;
		else
			enter(0, 1);
}

static void nothing(unsigned flags)
{
	struct io_uring_sqe *sqe = request();

	sqe->opcode = IORING_OP_NOP;
	sqe->user_data = LINES;
	sqe->flags = flags;
	queue();
}

/* How many completions wait that found no room. */
static int overflowed(void)
{
	static char text[1 << 16];
	char path[64], *at;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", ring.fd);
	int fd = open(path, O_RDONLY);
	ssize_t size = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[size < 0 ? 0 : size] = 0;
	at = strstr(text, "CqOverflowList");
	while (at && (at = strstr(at + 1, "user_data")))
		n++;
	return n;
}

/* The requests of one turn of the storm, each for a name of its own. */
static void turn(int from, const char *what)
{
	static char names[WIDTH][2][64];
	static int opened[WIDTH];

	for (int i = 0; i < WIDTH; i++) {
		struct io_uring_sqe *sqe = request();
		char *name = names[i][0], *other = names[i][1];
		const char *kind = strstr(what, "dir") ? "d" : "f";

		snprintf(name, 64, "%s%d-%d", kind, (int)getpid(), from + i);
		snprintf(other, 64, "%s.new", name);
		sqe->fd = AT_FDCWD;
		sqe->addr = (unsigned long)name;
		sqe->user_data = i;
		if (!strcmp(what, "create")) {
			sqe->opcode = IORING_OP_OPENAT;
			sqe->open_flags = O_CREAT | O_EXCL | O_WRONLY;
			sqe->len = 0600;
		} else if (!strcmp(what, "write")) {
			sqe->opcode = IORING_OP_WRITE;
			sqe->fd = opened[i];
			sqe->len = (from + i) % 60;
			sqe->off = -1;
		} else if (!strcmp(what, "close")) {
			sqe->opcode = IORING_OP_CLOSE;
			sqe->fd = opened[i];
			sqe->addr = 0;
		} else if (!strcmp(what, "rename")) {
			sqe->opcode = IORING_OP_RENAMEAT;
			sqe->len = AT_FDCWD;
			sqe->addr2 = (unsigned long)other;
		} else if (!strcmp(what, "mkdir")) {
			sqe->opcode = IORING_OP_MKDIRAT;
			sqe->len = (from + i) % 512;
		} else {
			sqe->opcode = IORING_OP_UNLINKAT;
			sqe->addr = (unsigned long)(*kind == 'f' ? other : name);
			sqe->unlink_flags = *kind == 'f' ? 0 : AT_REMOVEDIR;
		}
		queue();
	}
	enter(WIDTH, WIDTH);
	await(WIDTH);
	for (int i = 0; i < WIDTH; i++) {
		if (results[i] < 0) {
			fprintf(stderr, "%s: %s\n", what, strerror(-results[i]));
			exit(1);
		}
		if (!strcmp(what, "create"))
			opened[i] = results[i];
	}
}

static void storm(int rounds)
{
	static const char *turns[] = { "create", "write", "close", "rename", "unlink", "mkdir", "rmdir" };

	set_up(0, 0);
	for (int from = 0; from < rounds; from += WIDTH)
		for (unsigned i = 0; i < sizeof(turns) / sizeof(*turns); i++)
			turn(from, turns[i]);
}

static int accept_one(int port)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (struct sockaddr *)&here, sizeof(here)) || listen(listener, 1))
		fail("listen");
	pid_t child = fork();

	if (child) {
		int status = 0, caller = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(caller, (struct sockaddr *)&here, sizeof(here)))
			fail("connect");
		printf("%d\n", child);
		waitpid(child, &status, 0);
		return status;
	}
	set_up(0, 0);
	struct io_uring_sqe *sqe = request();

	sqe->opcode = IORING_OP_ACCEPT;
	sqe->fd = listener;
	queue();
	enter(1, 1);
	while (!completion())
		enter(0, 1);
	return results[0] < 0;
}

/* To where nobody may go: the call fails before it begins. */
static int connect_nowhere(int port)
{
	struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_BROADCAST) };

	set_up(0, 0);
	struct io_uring_sqe *sqe = request();

	sqe->opcode = IORING_OP_CONNECT;
	sqe->fd = socket(AF_INET, SOCK_STREAM, 0);
	sqe->addr = (unsigned long)&there;
	sqe->off = sizeof(there);
	queue();
	enter(1, 1);
	while (!completion())
		enter(0, 1);
	printf("%d\n", results[0]);
	return 0;
}

static void read_script(char *text)
{
	char *rest = NULL;

	for (char *line = strtok_r(text, "\n", &rest); line && lines < LINES; line = strtok_r(NULL, "\n", &rest)) {
		char *rest_of_line = NULL;
		int n = 0;

		for (char *word = strtok_r(line, " ", &rest_of_line); word && n < 5; word = strtok_r(NULL, " ", &rest_of_line))
			script[lines].words[n++] = word;
		if (n)
			lines++;
	}
}

int main(int argc, char **argv)
{
	const char *mode = argc == 3 ? argv[1] : "";

	if (argc != 3)
		return 2;
	if (!strcmp(mode, "storm")) {
		storm(atoi(argv[2]));
		return 0;
	}
	if (!strcmp(mode, "accept"))
		return accept_one(atoi(argv[2]));
	if (!strcmp(mode, "connect"))
		return connect_nowhere(atoi(argv[2]));
	read_script(argv[2]);
	if (!strcmp(mode, "call")) {
		for (int i = 0; i < lines; i++) {
			results[i] = call(&script[i]);
			told[i] = 1;
			is_opened(i);
		}
	} else if (!strcmp(mode, "ring") || !strcmp(mode, "async")) {
		set_up(0, 0);
		steps(*mode == 'a' ? IOSQE_ASYNC : 0);
	} else if (!strcmp(mode, "lend")) {
		set_up(0, 0);
		personality = syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_PERSONALITY, NULL, 0);
		if (personality <= 0 || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			fail("lend rights");
		steps(0);
	} else if (!strcmp(mode, "swap")) {
		set_up(SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN, 0);
		submit(0, IOSQE_ASYNC);
		enter(1, 0);
		while (fcntl(ring.fd + 1, F_GETFD) < 0)
			;
		close(ring.fd + 1);
		results[1] = call(&script[1]);
		told[1] = 1;
		await(1);
	} else if (!strcmp(mode, "table")) {
		int none[2] = { -1, -1 };

		set_up(0, 0);
		if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, none, 2))
			fail("register files");
		steps(0);
	} else if (!strcmp(mode, "sqpoll")) {
		set_up(IORING_SETUP_SQPOLL, 0);
		steps(0);
	} else if (!strcmp(mode, "defer")) {
		set_up(SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN, 0);
		steps(IOSQE_ASYNC);
	} else if (!strcmp(mode, "batch") || !strcmp(mode, "chain")) {
		set_up(0, 0);
		together(*mode == 'c' ? IOSQE_IO_LINK : 0, 0);
		await(lines);
	} else if (!strcmp(mode, "silent")) {
		set_up(0, 0);
		together(IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK, IOSQE_CQE_SKIP_SUCCESS);
		/* It begins when all the others are done. */
		nothing(IOSQE_IO_DRAIN);
		enter(1, 0);
		while (!completion())
			enter(0, 1);
	} else if (!strcmp(mode, "overflow")) {
		set_up(IORING_SETUP_CQSIZE, ENTRIES);
		for (int i = 0; i < ENTRIES; i++)
			nothing(0);
		enter(ENTRIES, 0);
		together(IOSQE_IO_LINK, 0);
		while (overflowed() < lines)
			enter(0, 1);
		await(ENTRIES + lines);
	} else {
		fprintf(stderr, "no mode %s\n", mode);
		return 2;
	}
	for (int i = 0; i < lines; i++)
		if (told[i])
			printf("%s %d\n", script[i].words[0], results[i]);
	return 0;
}
