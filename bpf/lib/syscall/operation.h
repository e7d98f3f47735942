/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "compat.h"
#include "../kernel/files.h"
#include "../kernel/verifier.h"

/* What a system call does with a socket, and how to tell that it uses one. */
enum operation {
	OPERATION_NONE,
	OPERATION_OTHER,
	OPERATION_RECEIVE,
	OPERATION_SEND,
	OPERATION_ACCEPT,
	OPERATION_CONNECT,
	OPERATION_KIND = 0x7, /* mask of the above */
	REMEMBERED = 0x8,     /* a thread remembers that it did this: see deed_of */
	ON_SOCKET = 0x10,     /* its first argument is the fd of a socket */
	ON_FILE = 0x20,       /* its first argument is an fd, maybe of a socket */
	ON_THIRD = 0x40,      /* or its third argument is one */
	ON_ANY = 0x80,        /* whether it uses sockets shows only inside the call */
};

#if defined(__TARGET_ARCH_x86)

#define X32_BIT 0x40000000UL
#define NR(x86, arm64) x86

#elif defined(__TARGET_ARCH_arm64)

#define X32_BIT 0UL
#define NR(x86, arm64) arm64

#endif

#define SYSCALL_LIMIT 512

static const __u8 operations[SYSCALL_LIMIT] = {
	[NR(0, 63)] = OPERATION_RECEIVE | REMEMBERED | ON_FILE,      /* read */
	[NR(1, 64)] = OPERATION_SEND | REMEMBERED | ON_FILE,         /* write */
	[NR(3, 57)] = OPERATION_OTHER | REMEMBERED | ON_FILE,        /* close */
	[NR(19, 65)] = OPERATION_RECEIVE | REMEMBERED | ON_FILE,     /* readv */
	[NR(20, 66)] = OPERATION_SEND | REMEMBERED | ON_FILE,        /* writev */
	[NR(40, 71)] = OPERATION_SEND | REMEMBERED | ON_FILE,        /* sendfile */
	[NR(41, 198)] = OPERATION_OTHER | ON_SOCKET,                 /* socket */
	[NR(42, 203)] = OPERATION_CONNECT | REMEMBERED | ON_SOCKET,  /* connect */
	[NR(43, 202)] = OPERATION_ACCEPT | ON_SOCKET,                /* accept */
	[NR(44, 206)] = OPERATION_SEND | REMEMBERED | ON_SOCKET,     /* sendto */
	[NR(45, 207)] = OPERATION_RECEIVE | REMEMBERED | ON_SOCKET,  /* recvfrom */
	[NR(46, 211)] = OPERATION_SEND | REMEMBERED | ON_SOCKET,     /* sendmsg */
	[NR(47, 212)] = OPERATION_RECEIVE | REMEMBERED | ON_SOCKET,  /* recvmsg */
	[NR(48, 210)] = OPERATION_OTHER | ON_SOCKET,                 /* shutdown */
	[NR(49, 200)] = OPERATION_OTHER | ON_SOCKET,                 /* bind */
	[NR(50, 201)] = OPERATION_OTHER | ON_SOCKET,                 /* listen */
	[NR(51, 204)] = OPERATION_OTHER | ON_SOCKET,                 /* getsockname */
	[NR(52, 205)] = OPERATION_OTHER | ON_SOCKET,                 /* getpeername */
	[NR(53, 199)] = OPERATION_OTHER | ON_SOCKET,                 /* socketpair */
	[NR(54, 208)] = OPERATION_OTHER | ON_SOCKET,                 /* setsockopt */
	[NR(55, 209)] = OPERATION_OTHER | ON_SOCKET,                 /* getsockopt */
	[NR(275, 76)] = OPERATION_RECEIVE | REMEMBERED | ON_FILE | ON_THIRD, /* splice */
	[NR(288, 242)] = OPERATION_ACCEPT | ON_SOCKET,               /* accept4 */
	[NR(299, 243)] = OPERATION_RECEIVE | REMEMBERED | ON_SOCKET, /* recvmmsg */
	[NR(307, 269)] = OPERATION_SEND | REMEMBERED | ON_SOCKET,    /* sendmmsg */
	[NR(327, 286)] = OPERATION_RECEIVE | REMEMBERED | ON_FILE,   /* preadv2 */
	[NR(328, 287)] = OPERATION_SEND | REMEMBERED | ON_FILE,      /* pwritev2 */
	[NR(426, 426)] = OPERATION_OTHER | ON_ANY,                   /* io_uring_enter */
};

#define SYS_CLOSE NR(3, 57)
#define SYS_IO_URING_ENTER 426
#define SYS_SOCKET NR(41, 198)
#define SYS_SOCKETPAIR NR(53, 199)

static __always_inline bool makes_sockets(__s32 number)
{
	return number == SYS_SOCKET || number == SYS_SOCKETPAIR;
}

static __always_inline __u8 operation_of(__s64 number)
{
	__u64 index = number;

	if (index >= SYSCALL_LIMIT)
		return OPERATION_NONE;
	LIMITED(index, 511);
	return operations[index];
}

/*
 * Set if system calls are hooked and the kernel has the tracepoints of sending and receiving, which
 * tell whether a file was a socket. To find that out at the start of a call takes longer.
 */
const volatile bool with_lengths;

/* Whether it shows only inside a system call if it is about a socket. */
static __always_inline bool shows_inside(long number, __u8 how)
{
	return how & ON_ANY || (with_lengths && how & ON_FILE && !(how & ON_THIRD) && number != SYS_CLOSE);
}
