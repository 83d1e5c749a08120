/*
 * The driver of both storms: spawner TIMES TAG PROGRAM [ARGUMENT...] waits for a byte on standard input, then TIMES times forks, executes
 * PROGRAM TAG-N [ARGUMENT...] with an empty environment, and waits for its end. Prints the sum of the exit statuses: 0 if all went well.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char name[256], byte, *nothing[] = { NULL };
	long failed = 0, times;
	int status;

	if (argc < 4)
		return 2;
	times = atol(argv[1]);
	char **command = calloc(argc, sizeof(*command));
	if (!command)
		return 1;
	command[0] = argv[3];
	command[1] = name;
	for (int i = 4; i < argc; i++)
		command[i - 2] = argv[i];
	if (read(0, &byte, 1) != 1)
		return 1;
	for (long n = 0; n < times; n++) {
		snprintf(name, sizeof(name), "%s-%ld", argv[2], n);
		pid_t child = fork();
		if (child == 0) {
			execve(command[0], command, nothing);
			_exit(255);
		}
		if (child < 0 || waitpid(child, &status, 0) != child)
			failed += 255;
		else
			failed += WIFEXITED(status) ? WEXITSTATUS(status) : 255;
	}
	printf("%ld\n", failed);
	return 0;
}
