/*
 * What a mail server does with its files, as postmark has it: mailbox DIR FILES SEED makes FILES files in some directories below DIR; then, four
 * times as often as there are files, reads a file or appends to it, and makes another one or deletes one; deletes what is left. Prints how many it
 * made, read, appended to and deleted. The seed decides what is done: with the same one it is the same.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BOXES 50
#define LEAST 512
#define MOST 10240

static char text[MOST];
static unsigned long long state;
static long made, been_read, appended, deleted;
static const char *spool;

/* splitmix64 */
static unsigned long long dice(unsigned long long sides)
{
	unsigned long long z = state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return (z ^ (z >> 31)) % sides;
}

static void check(int fine, const char *doing)
{
	if (!fine) {
		perror(doing);
		exit(1);
	}
}

static const char *path(long mail)
{
	static char name[4096];

	snprintf(name, sizeof(name), "%s/box%ld/%ld", spool, mail % BOXES, mail);
	return name;
}

static void put(const char *name, int flags, size_t size)
{
	int fd = open(name, O_WRONLY | flags, 0600);

	check(fd >= 0, name);
	check(write(fd, text, size) == (ssize_t)size, name);
	check(close(fd) == 0, name);
}

static void get(const char *name)
{
	static char into[4096];
	int fd = open(name, O_RDONLY);
	ssize_t n;

	check(fd >= 0, name);
	while ((n = read(fd, into, sizeof(into))) > 0)
		;
	check(n == 0 && close(fd) == 0, name);
}

int main(int argc, char **argv)
{
	char box[4096];

	if (argc != 4)
		return 2;
	spool = argv[1];
	long files = atol(argv[2]), times = 4 * files, there = 0;
	state = strtoull(argv[3], NULL, 10);
	long *mails = calloc(files + times, sizeof(*mails));
	check(mails && files > 0, "mails");
	memset(text, 'm', sizeof(text));
	for (int n = 0; n < BOXES; n++) {
		snprintf(box, sizeof(box), "%s/box%d", spool, n);
		check(mkdir(box, 0700) == 0, box);
	}
	for (long n = -files; n < times; n++) {
		if (n >= 0 && there) {
			const char *mail = path(mails[dice(there)]);

			if (dice(2)) {
				get(mail);
				been_read++;
			} else {
				put(mail, O_APPEND, 64 + dice(4096));
				appended++;
			}
		}
		if (n < 0 || !there || dice(2)) {
			mails[there++] = made;
			put(path(made++), O_CREAT | O_EXCL, LEAST + dice(MOST - LEAST));
		} else {
			long which = dice(there);

			check(unlink(path(mails[which])) == 0, "unlink");
			mails[which] = mails[--there];
			deleted++;
		}
	}
	while (there) {
		check(unlink(path(mails[--there])) == 0, "unlink");
		deleted++;
	}
	printf("%ld %ld %ld %ld\n", made, been_read, appended, deleted);
	return 0;
}
