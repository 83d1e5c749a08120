/*
 * The tight loop: bytes TIMES reads TIMES times one byte of /dev/zero and writes TIMES times one byte to a file in memory. Prints how many
 * nanoseconds both loops took together.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct timespec from, to;
	char byte;

	if (argc != 2)
		return 2;
	long times = atol(argv[1]), done = 0;
	int in = open("/dev/zero", O_RDONLY), out = memfd_create("bytes", 0);
	if (in < 0 || out < 0) {
		perror("bytes");
		return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long n = 0; n < times; n++)
		done += read(in, &byte, 1);
	for (long n = 0; n < times; n++)
		done += write(out, &byte, 1);
	clock_gettime(CLOCK_MONOTONIC, &to);
	if (done != 2 * times) {
		fprintf(stderr, "bytes: %ld of %ld calls failed\n", 2 * times - done, 2 * times);
		return 1;
	}
	printf("%lld\n", (to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec - from.tv_nsec);
	return 0;
}
