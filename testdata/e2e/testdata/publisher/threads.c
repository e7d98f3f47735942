/*
 * A program with a thread that ends in the middle of a span, and another one that has
 * its id and, as C libraries do, its stack and thread-local variables.
 *
 * It sends with a context over a connection to a port until it gets a line. Then a
 * thread publishes a context, sends and ends; and one with its id sends, publishes
 * another context and sends again.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "connection.h"
#include "context.h"

static struct context contexts[3];
static int fd, id;

static void say(int number)
{
	contexts[number] = context_of(number);
	set_context(&contexts[number]);
	send(fd, "x", 1, 0);
}

static void *former(void *unused)
{
	id = syscall(SYS_gettid);
	say(1);
	return NULL;
}

static void *latter(void *unused)
{
	if (syscall(SYS_gettid) != id)
		return NULL;
	send(fd, "y", 1, 0);
	say(2);
	return &id;
}

static void *run(void *(*function)(void *))
{
	pthread_t thread;
	void *result;

	if (pthread_create(&thread, NULL, function, NULL) || pthread_join(thread, &result))
		exit(1);
	return result;
}

/* Makes the kernel give the former thread's id to the next one, unless another process is faster. */
static void reuse_id(void)
{
	FILE *last = fopen("/proc/sys/kernel/ns_last_pid", "w");

	if (!last || fprintf(last, "%d", id - 1) < 0 || fclose(last))
		exit(1);
}

int main(int count, char **arguments)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};
	char line[2];

	if (count != 2)
		return 2;
	fd = connection_to(atoi(arguments[1]));
	while (!poll(&input, 1, 10)) {
		say(0);
		set_context(NULL);
	}
	if (read(0, line, 1) != 1)
		return 1;
	run(former);
	for (int tries = 0; tries < 200; tries++) {
		reuse_id();
		if (run(latter)) {
			printf("%d\n", id);
			fflush(stdout);
			while (read(0, line, sizeof(line)) > 0)
				;
			return 0;
		}
	}
	return 3;
}
