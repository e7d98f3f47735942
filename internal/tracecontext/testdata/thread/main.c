/*
 * Prints, for two threads, the thread pointer and where context_slot() says that
 * the thread's variable is; then waits for the end of its input. The function is
 * in the program, in a library it is linked with, or in the one it is told to load.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void **(*slot)(void);

static void *print(void *unused)
{
	void *pointer;
#ifdef __x86_64__
	__asm__("mov %%fs:0, %0" : "=r"(pointer));
#else
	pointer = __builtin_thread_pointer();
#endif
	printf("%lx %lx\n", (unsigned long)pointer, (unsigned long)slot());
	return unused;
}

static void *print_and_wait(void *unused)
{
	print(unused);
	puts("ready");
	fflush(stdout);
	pause();
	return unused;
}

int main(int count, char **arguments)
{
	pthread_t thread;
	char byte;
	void *library = count > 1 ? dlopen(arguments[1], RTLD_NOW) : RTLD_DEFAULT;

	slot = (void **(*)(void))dlsym(library, "context_slot");
	if (!slot) {
		puts(dlerror());
		return 1;
	}
	print(NULL);
	pthread_create(&thread, NULL, print_and_wait, NULL);
	return read(0, &byte, 1) != 0;
}
