/* Does what a program of 32 bits does, by `int 0x80`: compiled for 32 bits, and for 64. No C library, and everything that the kernel reads lies low. */
static long call(long n, long a, long b, long c)
{
	long r;

	__asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c) : "memory");
	return r;
}

static unsigned low(const void *p)
{
	return (unsigned)(unsigned long)p;
}

static const char shell[] = "/etc/passwd", first[] = "first", second[] = "second", made[] = "made", moved[] = "moved", dir[] = "dir";
static unsigned words[6];
static unsigned char address[16] = { 2, 0, 0, 7, 255, 255, 255, 255 };

void _start(void)
{
	enum { EXIT = 1, WRITE = 4, OPEN = 5, CLOSE = 6, UNLINK = 10, EXECVE = 11, CHMOD = 15, KILL = 37, RENAME = 38, MKDIR = 39, MMAP = 90,
	       SOCKETCALL = 102, SETUID32 = 213 };
	long fd = call(OPEN, low(made), 0102, 0600);

	call(WRITE, fd, low(dir), 3);
	call(CLOSE, fd, 0, 0);
	call(CHMOD, low(made), 0700, 0);
	fd = call(OPEN, low(made), 0, 0);
	words[1] = 4096;
	words[2] = 5;
	words[3] = 2;
	words[4] = fd;
	call(MMAP, low(words), 0, 0);
	call(CLOSE, fd, 0, 0);
	call(RENAME, low(made), low(moved), 0);
	call(MKDIR, low(dir), 0700, 0);
	call(UNLINK, low(moved), 0, 0);
	words[0] = low(first);
	words[1] = low(second);
	words[2] = 0;
	call(EXECVE, low(shell), low(words), 0);
	words[0] = 2;
	words[1] = 1;
	words[2] = 0;
	fd = call(SOCKETCALL, 1, low(words), 0);
	words[0] = fd;
	words[1] = low(address);
	words[2] = 16;
	call(SOCKETCALL, 3, low(words), 0);
	call(SETUID32, 0, 0, 0);
	call(KILL, 1, 15, 0);
	call(EXIT, 0, 0, 0);
}
