#include <stdint.h>

/* The thread's record of OTEP 4947. */
struct __attribute__((packed)) context {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t valid;
	uint8_t flags;
	uint16_t attributes_size;
};

/* Publishes the running thread's context; NULL is none. */
void set_context(struct context *context);
