/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../syscall/entry.h"
#include "expected.h"
#include "tree.h"

/*
 * The address that was passed to a 32-bit system call. These calls have numbers and registers of
 * their own, and on x86 all of them can also be made through one, socketcall.
 */
#define SYS_BIND NR(49, 200)

#define SYS32_BIND NR(361, 282)
#define SYS32_CONNECT NR(362, 283)
#define SYS32_SENDTO NR(369, 290)
#define SYS32_SENDMSG NR(370, 296)
#define SYS32_SENDMMSG NR(345, 374)

#define ARGUMENTS 6
#define FEW_ARGUMENTS 3 /* all but sendto have no more */

struct call32 {
	__s32 syscall; /* native number */
	__u32 argument[ARGUMENTS];
};

/* The native number of a call; 0 if it is passed no address. */
static __always_inline __s32 native_of(long number)
{
	switch (number) {
	case SYS32_BIND:
		return SYS_BIND;
	case SYS32_CONNECT:
		return SYS_CONNECT;
	case SYS32_SENDTO:
		return SYS_SENDTO;
	case SYS32_SENDMSG:
		return SYS_SENDMSG;
	case SYS32_SENDMMSG:
		return SYS_SENDMMSG;
	}
	return 0;
}

#if defined(__TARGET_ARCH_x86)

#define SYS32_SOCKETCALL 102

/* The same for the first argument of socketcall. */
static __always_inline __s32 native_of_socketcall(__u32 number)
{
	switch (number) {
	case 2:
		return SYS_BIND;
	case 3:
		return SYS_CONNECT;
	case 11:
		return SYS_SENDTO;
	case 16:
		return SYS_SENDMSG;
	case 20:
		return SYS_SENDMMSG;
	}
	return 0;
}

static __always_inline void read_arguments32(__u32 *argument, struct pt_regs *regs)
{
	argument[0] = REGISTER(regs, bx);
	argument[1] = REGISTER(regs, cx);
	argument[2] = REGISTER(regs, dx);
	argument[4] = REGISTER(regs, di);
	argument[5] = REGISTER(regs, bp);
}

/* Takes the arguments from the program's memory, where those of socketcall are. */
static __always_inline bool read_socketcall(struct call32 *c)
{
	const void *at = (const void *)(__u64)c->argument[1];

	c->syscall = native_of_socketcall(c->argument[0]);
	if (c->syscall == SYS_SENDTO)
		return !bpf_probe_read_user(c->argument, sizeof(c->argument), at);
	return !bpf_probe_read_user(c->argument, FEW_ARGUMENTS * sizeof(__u32), at);
}

#elif defined(__TARGET_ARCH_arm64)

static __always_inline void read_arguments32(__u32 *argument, struct pt_regs *regs)
{
	argument[0] = first_of(regs);
	argument[1] = second_of(regs);
	argument[2] = third_of(regs);
	argument[4] = fifth_of(regs);
	argument[5] = sixth_of(regs);
}

#endif

/* Reads the running thread's 32-bit call; false if it is passed no address. */
static __always_inline bool read_call32(struct call32 *c, struct pt_regs *regs)
{
	long number = syscall_of(regs);

	read_arguments32(c->argument, regs);
#if defined(__TARGET_ARCH_x86)
	if (number == SYS32_SOCKETCALL)
		return read_socketcall(c) && c->syscall;
#endif
	c->syscall = native_of(number);
	return c->syscall;
}

/* The beginning of a 32-bit struct msghdr. */
struct msghdr32 {
	__u32 name;
	__u32 name_length;
};

static __always_inline void take_given32(struct given *given, const struct call32 *c)
{
	struct msghdr32 message = {};

	given->syscall = c->syscall;
	switch (c->syscall) {
	case SYS_SENDTO:
		given->at = c->argument[4];
		given->length = c->argument[5];
		break;
	case SYS_SENDMSG:
	case SYS_SENDMMSG:
		bpf_probe_read_user(&message, sizeof(message), (const void *)(__u64)c->argument[1]);
		given->at = message.name;
		given->length = message.name_length;
		break;
	default:
		given->at = c->argument[1];
		given->length = c->argument[2];
	}
}
