/*
 * The other side of the connect storm: acceptor PROCESSES listens on a free port of 127.0.0.1, prints it, and closes each connection as soon as it
 * has accepted it. Ends with the process that started it.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (argc != 2 || listener < 0 || bind(listener, (struct sockaddr *)&at, size) || listen(listener, 4096) ||
	    getsockname(listener, (struct sockaddr *)&at, &size))
		return 1;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	printf("%u\n", ntohs(at.sin_port));
	fflush(stdout);
	for (int others = atoi(argv[1]) - 1; others > 0; others--)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			break;
		}
	for (;;) {
		int connection = accept(listener, NULL, NULL);
		if (connection >= 0)
			close(connection);
	}
}
