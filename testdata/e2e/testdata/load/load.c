/*
 * load - many small processes that use the network, to measure what watching them costs.
 *
 *   load crowd N PAUSE_MS  N processes; each sends itself a datagram every PAUSE_MS
 *   load sockets N PAUSE_MS
 *                          one process with N sockets; each sends itself a datagram
 *                          every PAUSE_MS
 *   load interfaces N PAUSE_MS
 *                          one process with N interfaces, which are veth pairs in a network
 *                          namespace of its own; one end of each pair sends a datagram to
 *                          the other every PAUSE_MS
 *   load clients N PAUSE_MS
 *                          a server that sends each of N processes a message every PAUSE_MS,
 *                          which they answer; after 10 messages each makes a new connection
 *   load execs RATE        RATE processes a second, each of which executes a program; one in
 *                          four sends itself a datagram before it ends
 *
 * It prints "ready" when all are at work. When its standard input ends, it ends with all of them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* A socket whose peer is itself. */
static int own_socket(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || bind(fd, (void *)&address, length) || getsockname(fd, (void *)&address, &length) ||
	    connect(fd, (void *)&address, length))
		fail("socket");
	return fd;
}

static void exchange(int fd)
{
	char payload[64] = { 0 };

	if (send(fd, payload, sizeof(payload), 0) < 0 || recv(fd, payload, sizeof(payload), 0) < 0)
		fail("datagram");
}

static void pause_ns(long long ns)
{
	struct timespec t = { ns / 1000000000, ns % 1000000000 };

	nanosleep(&t, NULL);
}

static int has_ended(int timeout_ms)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };

	return poll(&input, 1, timeout_ms) > 0;
}

static void live(long long ns, int i, int of)
{
	int fd = own_socket();

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (pause_ns(ns * i / of);; pause_ns(ns))
		exchange(fd);
}

static void crowd(int n, long long ns)
{
	for (int i = 0; i < n; i++) {
		switch (fork()) {
		case -1:
			fail("fork");
		case 0:
			live(ns, i, n);
		}
	}
	puts("ready");
	fflush(stdout);
	has_ended(-1);
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		;
}

static void cast(int fd)
{
	char payload[64] = { 0 };

	if (send(fd, payload, sizeof(payload), 0) < 0)
		fail("datagram");
}

/* A datagram through each socket, and a pause, until the input ends. */
static void take_turns(const int *fds, int n, int pause_ms, void (*act)(int fd))
{
	puts("ready");
	fflush(stdout);
	do {
		for (int i = 0; i < n; i++)
			act(fds[i]);
	} while (!has_ended(pause_ms));
}

/* Memory for n file descriptors, after raising the limit of open files. */
static int *descriptors(int n)
{
	struct rlimit files = { n + 16, n + 16 };
	int *fds = calloc(n, sizeof(*fds));

	if (!fds || setrlimit(RLIMIT_NOFILE, &files))
		fail("descriptors");
	return fds;
}

static void sockets(int n, int pause_ms)
{
	int *fds = descriptors(n);

	for (int i = 0; i < n; i++)
		fds[i] = own_socket();
	take_turns(fds, n, pause_ms, exchange);
}

/* The peer of a pair has no address, so no socket receives the datagrams. */
static void interfaces(int n, int pause_ms)
{
	struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons(9) };
	int *fds = descriptors(n /= 2);
	FILE *ip;

	if (unshare(CLONE_NEWNET))
		fail("network namespace");
	ip = popen("ip -batch -", "w");
	if (!ip)
		fail("ip");
	for (int i = 0; i < n; i++)
		fprintf(ip, "link add load%d type veth peer name peer%d\naddr add 10.%d.%d.1/24 dev load%d\n"
			"link set load%d up\nlink set peer%d up\n", i, i, i / 256, i % 256, i, i, i);
	if (pclose(ip))
		fail("ip");
	for (int i = 0; i < n; i++) {
		peer.sin_addr.s_addr = htonl(10 << 24 | i << 8 | 2);
		fds[i] = socket(AF_INET, SOCK_DGRAM, 0);
		if (fds[i] < 0 || connect(fds[i], (void *)&peer, sizeof(peer)))
			fail("socket");
	}
	take_turns(fds, n, pause_ms, cast);
}

static long long since_ms(const struct timespec *started)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - started->tv_sec) * 1000LL + (now.tv_nsec - started->tv_nsec) / 1000000;
}

/* How long it is until a time after the start, and 0 if that is over. */
static int until_ms(const struct timespec *started, long long time_ms)
{
	long long left = time_ms - since_ms(started);

	return left > 0 ? left : 0;
}

static void message(int fd)
{
	char payload[64] = { 0 };

	if (send(fd, payload, sizeof(payload), 0) != sizeof(payload))
		fail("message");
}

static int has_message(int fd)
{
	char payload[64];

	return recv(fd, payload, sizeof(payload), MSG_WAITALL) == sizeof(payload);
}

/* Answers each message, on one connection after the other. */
static void answer(const struct sockaddr_in *server)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (fd < 0 || connect(fd, (const void *)server, sizeof(*server)))
			fail("connect");
		while (has_message(fd))
			message(fd);
		close(fd);
	}
}

/* The clients have their messages one after the other, and end their connections so as well. */
static void clients(int n, int pause_ms)
{
	const int messages = 10;
	struct sockaddr_in server = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(server);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int *fds = descriptors(n);
	struct timespec started;

	if (listener < 0 || bind(listener, (void *)&server, length) || listen(listener, n) ||
	    getsockname(listener, (void *)&server, &length))
		fail("listen");
	for (int i = 0; i < n; i++) {
		switch (fork()) {
		case -1:
			fail("fork");
		case 0:
			close(listener);
			answer(&server);
		}
	}
	for (int i = 0; i < n; i++) /* now, or processes would hold each other's connections */
		fds[i] = accept(listener, NULL, NULL);
	puts("ready");
	fflush(stdout);
	clock_gettime(CLOCK_MONOTONIC, &started);
	for (long long turn = 0; !has_ended(until_ms(&started, turn * pause_ms / n)); turn++) {
		int i = turn % n;

		message(fds[i]);
		if (!has_message(fds[i]))
			fail("answer");
		if ((turn / n + i) % messages == 0) {
			close(fds[i]);
			fds[i] = accept(listener, NULL, NULL);
		}
	}
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		;
}

static void execs(const char *self, int rate)
{
	const int tick_ms = 10;
	struct timespec started;
	long long done = 0, due;

	clock_gettime(CLOCK_MONOTONIC, &started);
	puts("ready");
	fflush(stdout);
	while (!has_ended(tick_ms)) {
		due = rate * since_ms(&started) / 1000;
		for (; done < due; done++) {
			switch (vfork()) {
			case -1:
				fail("vfork");
			case 0:
				execl(self, self, done % 4 ? "nothing" : "datagram", NULL);
				_exit(1);
			}
		}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	while (wait(NULL) > 0)
		;
	printf("%lld\n", done);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "nothing"))
		return 0;
	if (argc == 2 && !strcmp(argv[1], "datagram")) {
		exchange(own_socket());
		return 0;
	}
	if (argc == 4 && !strcmp(argv[1], "crowd")) {
		setpgid(0, 0);
		crowd(atoi(argv[2]), atoi(argv[3]) * 1000000LL);
		return 0;
	}
	if (argc == 4 && !strcmp(argv[1], "clients")) {
		setpgid(0, 0);
		clients(atoi(argv[2]), atoi(argv[3]));
		return 0;
	}
	if (argc == 4 && !strcmp(argv[1], "sockets")) {
		sockets(atoi(argv[2]), atoi(argv[3]));
		return 0;
	}
	if (argc == 4 && !strcmp(argv[1], "interfaces")) {
		interfaces(atoi(argv[2]), atoi(argv[3]));
		return 0;
	}
	if (argc == 3 && !strcmp(argv[1], "execs")) {
		execs("/proc/self/exe", atoi(argv[2]));
		return 0;
	}
	fprintf(stderr, "usage: load crowd|clients|sockets|interfaces N PAUSE_MS | load execs RATE\n");
	return 2;
}
