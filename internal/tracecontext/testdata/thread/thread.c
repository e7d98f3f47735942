/* What a library for OTEP 4947 has; PAD makes its block too large to be at a fixed offset. */
__thread void *otel_thread_ctx_v1;
#ifdef PAD
__thread char pad[1 << 16];
#endif

void **context_slot(void)
{
#ifdef PAD
	pad[0] = 1;
#endif
	return &otel_thread_ctx_v1;
}
