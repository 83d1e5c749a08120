/*
 * The program of the connect storm: dial NAME PORT TIMES connects TIMES times to 127.0.0.1, one connection after the other, and waits each time
 * until the other side has closed. Exit status: how many connections failed (255 for more).
 */
#include <linux/in.h>

#include "system_calls.h"

#define STREAM 1

static long number(const char *text)
{
	long n = 0;

	while (*text >= '0' && *text <= '9')
		n = n * 10 + *text++ - '0';
	return n;
}

static int dial(unsigned short port)
{
	struct sockaddr_in to = { .sin_family = 2, .sin_port = __builtin_bswap16(port) };
	char byte;
	long fd = system_call(__NR_socket, 2, STREAM, 0);
	int done;

	to.sin_addr.s_addr = __builtin_bswap32(0x7f000001);
	if (fd < 0)
		return 0;
	done = system_call(__NR_connect, fd, (long)&to, sizeof(to)) == 0 && system_call(__NR_read, fd, (long)&byte, 1) == 0;
	system_call(__NR_close, fd, 0, 0);
	return done;
}

_Noreturn void begin(long *stack)
{
	char **arguments = (char **)(stack + 1);
	long failed = 0;

	if (stack[0] != 4)
		quit(255);
	for (long left = number(arguments[3]); left > 0; left--)
		failed += !dial(number(arguments[2]));
	quit(failed > 255 ? 255 : failed);
}
