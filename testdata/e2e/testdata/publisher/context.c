#include "context.h"

__thread struct context *otel_thread_ctx_v1;

void set_context(struct context *context)
{
	__asm__ volatile("" : : : "memory"); /* the record is whole before it is published */
	otel_thread_ctx_v1 = context;
}
