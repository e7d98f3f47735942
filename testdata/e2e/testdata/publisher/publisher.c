/*
 * A program that publishes at which span each thread works (OTEP 4947), and which
 * service it is (OTEP 4719), and sends over a connection to a port.
 *
 * It sends with a context, which is another one each time, until it gets a line;
 * then ten times with a context and without one in turn, and waits for the end of
 * its input.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include <poll.h>

#include "connection.h"
#include "context.h"

struct __attribute__((packed)) header {
	char signature[8];
	uint32_t version;
	uint32_t payload_size;
	uint64_t published_at_ns;
	uint64_t payload;
};

/* A ProcessContext with a Resource of one attribute, service.name: "publisher". */
static const char payload[] = "\x0a\x1d\x0a\x1b\x0a\x0cservice.name\x12\x0b\x0a\x09publisher";

static void publish_service(void)
{
	struct timespec now;
	struct header *header;
	int fd = memfd_create("OTEL_CTX", 0);

	if (fd < 0 || ftruncate(fd, sizeof(*header)))
		exit(1);
	header = mmap(NULL, sizeof(*header), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (header == MAP_FAILED)
		exit(1);
	header->version = 2;
	header->payload_size = sizeof(payload) - 1;
	header->payload = (uint64_t)(uintptr_t)payload;
	memcpy(header->signature, "OTEL_CTX", 8);
	clock_gettime(CLOCK_BOOTTIME, &now);
	header->published_at_ns = now.tv_sec * 1000000000ull + now.tv_nsec;
	prctl(0x53564d41 /* PR_SET_VMA */, 0, header, sizeof(*header), "OTEL_CTX");
}

static int fd;

static void work(unsigned char number)
{
	struct context context = context_of(number);

	set_context(&context);
	send(fd, "x", 1, 0);
	set_context(NULL);
}

int main(int count, char **arguments)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};
	char line[2];

	if (count != 2)
		return 2;
	publish_service();
	fd = connection_to(atoi(arguments[1]));
	while (!poll(&input, 1, 10))
		work(0xff);
	if (read(0, line, 1) != 1)
		return 1;
	for (unsigned char number = 1; number <= 10; number++) {
		work(number);
		send(fd, "y", 1, 0);
	}
	while (read(0, line, sizeof(line)) > 0)
		;
	return 0;
}
