/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/address.h"
#include "expected.h"
#include "given32.h"

/*
 * The address that a program passed to a call that failed. If a call succeeds, the socket has
 * the address. If it fails, the kernel does not keep it, so it is read from the program's memory.
 * io_uring has copied it, so there it is what the function is passed with which the call begins. If
 * it cannot be read, or none was passed, it is unknown.
 */

#define MSGHDR_NAME 12 /* bytes of struct msghdr that say where the address is */

/* The beginning of a struct sockaddr_in, and of a struct sockaddr_in6. */
struct given_address {
	__u16 family;
	__be16 port;
	__be32 address;
};

struct given_address6 {
	__u16 family;
	__be16 port;
	__u32 flow;
	__u8 address[16];
};

/* Whether a call ignores the address that it is passed: data sent on a connected stream go to its peer. */
static __always_inline bool has_only_peer(struct call *call, struct sock *sk, __s32 syscall)
{
	return syscall != SYS_BIND && syscall != SYS_CONNECT && call->peer_port && BPF_CORE_READ(sk, sk_type) == SOCK_STREAM;
}

/* Finds the address that was passed to the running thread's system call. */
static __always_inline void find_given_to(struct given *given, __s32 syscall, struct pt_regs *regs)
{
	given->syscall = syscall;
	switch (syscall) {
	case SYS_BIND:
	case SYS_CONNECT:
		given->at = second_of(regs);
		given->length = third_of(regs);
		break;
	case SYS_SENDTO:
		given->at = fifth_of(regs);
		given->length = sixth_of(regs);
		break;
	case SYS_SENDMSG:
	case SYS_SENDMMSG: /* it fails only if its first message fails, whose header comes first */
		bpf_probe_read_user(given, MSGHDR_NAME, (void *)second_of(regs));
		break;
	}
}

/* The same for a 32-bit system call, and the socket that it is about. */
static __always_inline void find_given_to_32bit(struct tree *t, struct pt_regs *regs)
{
	struct call32 c = {};

	if (is_behind_call(regs) || !read_call32(&c, regs))
		return;
	t->call.fd = c.argument[0];
	t->sock = (__u64)sock_of_file(file_of_fd(t->call.fd));
	take_given32(&t->given, &c);
}

/* Finds the address that was passed to the running thread's call, which has failed. */
static __always_inline void find_given(struct tree *t)
{
	struct pt_regs *regs = user_registers();

	if (t->given.syscall) /* see note_passed */
		return;
	if (t->call.fd >= 0)
		find_given_to(&t->given, t->call.syscall, regs);
	else if (t->call.syscall == NO_SYSCALL && is_32bit_call())
		find_given_to_32bit(t, regs);
}

/*
 * What the first of the functions that io_uring and the kernel itself call for an operation is
 * passed. Go: passes in internal/calls/hooks_linux.go.
 */
enum passes {
	PASSES_NOTHING,
	PASSES_FILE_AND_ADDRESS, /* and the address's length: __sys_connect_file */
	PASSES_SOCKET_AND_ADDRESS, /* the same: __sys_bind_socket */
	PASSES_SOCKET_AND_MESSAGE, /* sock_sendmsg */
};

/* a variable of this type makes bpf2go generate the constants */
const volatile enum passes last_passes = PASSES_SOCKET_AND_MESSAGE;

/*
 * Notes what a function was passed that has failed, if it is the one with which the running thread's
 * call began, and if no system call tells that. This is a global function: see report_call.
 */
__noinline int note_passed(__u32 passes, __u64 first, __u64 second, __u32 third)
{
	struct tree *t = this_tree();
	struct given *given;

	if (!t || t->depth != 1 || t->call.fd >= 0)
		return 0;
	given = &t->given;
	if (passes == PASSES_FILE_AND_ADDRESS)
		t->sock = (__u64)sock_of_file((struct file *)first);
	else
		t->sock = (__u64)BPF_CORE_READ((struct socket *)first, sk);
	given->at = second;
	given->length = third;
	given->in_kernel = 1;
	given->syscall = passes == PASSES_FILE_AND_ADDRESS ? SYS_CONNECT : SYS_BIND;
	if (passes == PASSES_SOCKET_AND_MESSAGE) {
		given->syscall = SYS_SENDMSG;
		given->at = (__u64)BPF_CORE_READ((struct msghdr *)second, msg_name);
		given->length = BPF_CORE_READ((struct msghdr *)second, msg_namelen);
	}
	return 0;
}

/* Reads from the address; 0 if it can be read. */
static __always_inline long read_given(void *to, __u32 bytes, const struct given *given, __u32 offset)
{
	const void *from = (const void *)given->at + offset;

	return given->in_kernel ? bpf_probe_read_kernel(to, bytes, from) : bpf_probe_read_user(to, bytes, from);
}

/* Where the path of a record is: behind the nodes. NULL if the number of nodes is out of range, for the verifier. */
static __always_inline char *room_for_path(struct call *call)
{
	__u64 n = READ_ONCE(call->nodes);

	if (n > MAX_NODES)
		return NULL;
	CHECKED(n);
	return (char *)&call->node[n];
}

/* The length of a path, computed from the length of its address, which begins with the family. */
#define PATH_LENGTH(address_length)                                        \
	({                                                                 \
		__u64 length = (__u32)(address_length) - FAMILY_BYTES;     \
		if (length > PATH_BYTES)                                   \
			length = PATH_BYTES;                               \
		LIMITED(length, 127);                                      \
		length;                                                    \
	})

_Static_assert(PATH_NODES * sizeof(struct call_node) >= 128 && PATH_BYTES < 128, "the mask of a path's length");

static __always_inline void keep_path(struct call *call, enum path_end end, __u32 bytes)
{
	call->path_end = end;
	call->path_bytes = bytes;
}

static __always_inline void note_given_path(struct call *call, const struct given *given, enum path_end end)
{
	char *path = room_for_path(call);
	__u64 bytes = PATH_LENGTH(given->length);

	if (path && !read_given(path, bytes, given, FAMILY_BYTES))
		keep_path(call, end, bytes);
}

/* Records the path of a Unix socket's peer, or that of the socket itself if the peer has none. */
static __always_inline void note_path(struct call *call, struct sock *sk)
{
	struct unix_sock *peer = (struct unix_sock *)BPF_CORE_READ((struct unix_sock *)sk, peer);
	struct unix_address *name = BPF_CORE_READ(peer, addr);
	enum path_end end = PATH_OF_PEER;
	char *path = room_for_path(call);
	__u64 bytes;

	if (!name) {
		name = BPF_CORE_READ((struct unix_sock *)sk, addr);
		end = PATH_OF_LOCAL;
	}
	if (!name || !path)
		return;
	bytes = PATH_LENGTH(BPF_CORE_READ(name, len));
	if (!bpf_probe_read_kernel(path, bytes, name->name[0].sun_path))
		keep_path(call, end, bytes);
}

/* Records the passed IPv4 address as that of one end. */
static __always_inline void take_address(__u8 *end, __u16 *port, const struct given *given)
{
	struct given_address address;

	if (given->length < sizeof(address) || read_given(&address, sizeof(address), given, 0))
		return;
	__builtin_memset(end, 0, 10);
	end[10] = end[11] = 0xff;
	__builtin_memcpy(&end[12], &address.address, 4);
	*port = bpf_ntohs(address.port);
}

/* Records the passed IPv6 address as that of one end. */
static __always_inline void take_address6(__u8 *end, __u16 *port, const struct given *given)
{
	struct given_address6 address;

	if (given->length < sizeof(address) || read_given(&address, sizeof(address), given, 0))
		return;
	__builtin_memcpy(end, address.address, 16);
	*port = bpf_ntohs(address.port);
}

/* Records the passed address as that of the local end for bind, and of the peer otherwise. */
static __always_inline void take_given(struct call *call, const struct given *given)
{
	bool local = given->syscall == SYS_BIND;
	__u8 *end = local ? call->local_address : call->peer_address;
	__u16 *port = local ? &call->local_port : &call->peer_port;
	__u16 family = 0;

	if (!given->at || given->length <= FAMILY_BYTES || read_given(&family, FAMILY_BYTES, given, 0))
		return;
	if (family == AF_INET)
		take_address(end, port, given);
	else if (family == AF_INET6)
		take_address6(end, port, given);
	else if (family == AF_UNIX)
		note_given_path(call, given, local ? PATH_OF_LOCAL : PATH_OF_PEER);
}

/* Records the address that was passed to a call that failed, and the path of a Unix socket. */
static __always_inline void note_given(struct call *call, const struct given *given, struct sock *sk)
{
	if (!has_only_peer(call, sk, given->syscall))
		take_given(call, given);
	if (call->family == AF_UNIX && !call->path_bytes)
		note_path(call, sk);
}
