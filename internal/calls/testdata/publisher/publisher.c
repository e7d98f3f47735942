/*
 * A program without a C library that publishes at which span its thread works
 * (OTEP 4947). For each byte that it reads it sends one on descriptor 3: for '-'
 * without a span, for any other at one that has it as the last byte of its ids.
 */
typedef unsigned long word;

struct context {
	unsigned char trace_id[16];
	unsigned char span_id[8];
	unsigned char valid;
	unsigned char flags;
	unsigned short attributes;
};

__thread struct context *otel_thread_ctx_v1;

#if defined(__x86_64__)

#define FIRST __attribute__((force_align_arg_pointer)) /* nobody has called it */

enum { READ = 0, SENDTO = 44, EXIT = 60, ARCH_PRCTL = 158, ARCH_SET_FS = 0x1002 };

static long call(long number, word a, word b, word c, word d)
{
	register word r10 __asm__("r10") = d, r8 __asm__("r8") = 0, r9 __asm__("r9") = 0;
	long result = number;

	__asm__ volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return result;
}

static void set_thread_pointer(word *pointer)
{
	*pointer = (word)pointer;
	call(ARCH_PRCTL, ARCH_SET_FS, (word)pointer, 0, 0);
}

#elif defined(__aarch64__)

#define FIRST

enum { READ = 63, SENDTO = 206, EXIT = 93 };

static long call(long number, word a, word b, word c, word d)
{
	register word x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
	register word x3 __asm__("x3") = d, x4 __asm__("x4") = 0, x5 __asm__("x5") = 0;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}

static void set_thread_pointer(word *pointer)
{
	__asm__ volatile("msr tpidr_el0, %0" : : "r"(pointer));
}

#endif

/* Below the thread pointer are a program's variables on x86-64, behind two words on arm64. */
static word block[8] __attribute__((aligned(64)));

FIRST void _start(void)
{
	struct context context;
	unsigned char byte;

	set_thread_pointer(block + 4);
	for (int i = 0; i < 16; i++)
		context.trace_id[i] = 0xc0;
	for (int i = 0; i < 8; i++)
		context.span_id[i] = 0xd0;
	context.valid = context.flags = 1;
	context.attributes = 0;
	while (call(READ, 0, (word)&byte, 1, 0) == 1) {
		context.trace_id[15] = context.span_id[7] = byte;
		*(struct context *volatile *)&otel_thread_ctx_v1 = byte == '-' ? 0 : &context;
		call(SENDTO, 3, (word)&byte, 1, 0);
	}
	call(EXIT, 0, 0, 0, 0);
}
