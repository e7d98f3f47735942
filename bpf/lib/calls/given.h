/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/address.h"
#include "expected.h"

/*
 * The address that a program passed to a call that failed. If a call succeeds, the socket has
 * the address. If it fails, the kernel does not keep it, so it is read from the program's memory.
 * If that cannot be read, or no system call passed the address, it is unknown.
 */
#define SYS_BIND NR(49, 200)

#define FAMILY_BYTES 2

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

/* Where an address is in the program's memory. The fields are those with which struct msghdr begins. */
struct given {
	__u64 at; /* 0: no address was passed */
	__u32 length;
	__u32 pad;
};

/* Whether a call ignores the address that it is passed: data sent on a connected stream go to its peer. */
static __always_inline bool has_only_peer(struct call *call, struct sock *sk)
{
	return call->syscall != SYS_BIND && call->syscall != SYS_CONNECT && call->peer_port &&
	       BPF_CORE_READ(sk, sk_type) == SOCK_STREAM;
}

/* The address that was passed to the running thread's system call. */
static __always_inline struct given given_to(__s32 syscall, struct pt_regs *regs)
{
	struct given given = {};

	switch (syscall) {
	case SYS_BIND:
	case SYS_CONNECT:
		given.at = second_of(regs);
		given.length = third_of(regs);
		break;
	case SYS_SENDTO:
		given.at = fifth_of(regs);
		given.length = sixth_of(regs);
		break;
	case SYS_SENDMSG:
	case SYS_SENDMMSG: /* it fails only if its first message fails, whose header comes first */
		bpf_probe_read_user(&given, sizeof(given), (void *)second_of(regs));
		break;
	}
	return given;
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

	if (path && !bpf_probe_read_user(path, bytes, (void *)given->at + FAMILY_BYTES))
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

	if (given->length < sizeof(address) || bpf_probe_read_user(&address, sizeof(address), (void *)given->at))
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

	if (given->length < sizeof(address) || bpf_probe_read_user(&address, sizeof(address), (void *)given->at))
		return;
	__builtin_memcpy(end, address.address, 16);
	*port = bpf_ntohs(address.port);
}

/* Records the passed address as that of the local end for bind, and of the peer otherwise. */
static __always_inline void take_given(struct call *call, const struct given *given)
{
	bool local = call->syscall == SYS_BIND;
	__u8 *end = local ? call->local_address : call->peer_address;
	__u16 *port = local ? &call->local_port : &call->peer_port;
	__u16 family = 0;

	if (!given->at || given->length <= FAMILY_BYTES || bpf_probe_read_user(&family, FAMILY_BYTES, (void *)given->at))
		return;
	if (family == AF_INET)
		take_address(end, port, given);
	else if (family == AF_INET6)
		take_address6(end, port, given);
	else if (family == AF_UNIX)
		note_given_path(call, given, local ? PATH_OF_LOCAL : PATH_OF_PEER);
}

/* Records the address that was passed to the running thread's call, which failed, and the path of a Unix socket. */
static __always_inline void note_given(struct call *call, struct sock *sk)
{
	struct given given;

	if (call->fd >= 0 && !has_only_peer(call, sk)) {
		given = given_to(call->syscall, user_registers());
		take_given(call, &given);
	}
	if (call->family == AF_UNIX && !call->path_bytes)
		note_path(call, sk);
}
