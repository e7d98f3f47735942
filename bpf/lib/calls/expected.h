/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../syscall/entry.h"
#include "wait.h"

/*
 * Failures that a program expects: it asks whether something is possible, or has another way if it
 * is not. The table in docs/calls.md lists them with the reason for each.
 */
bool omits_expected;

#define EPERM 1
#define ENOENT 2
#define ESRCH 3
#define EINTR 4
#define EACCES 13
#define ENODEV 19
#define EINVAL 22
#define ENOTTY 25
#define ERANGE 34
#define ENODATA 61
#define ENOTSOCK 88
#define ENOPROTOOPT 92
#define EPROTONOSUPPORT 93
#define ESOCKTNOSUPPORT 94
#define EOPNOTSUPP 95
#define EAFNOSUPPORT 97
#define EADDRNOTAVAIL 99
#define ENETUNREACH 101
#define ECONNRESET 104
#define EISCONN 106
#define ENOTCONN 107
#define ECONNREFUSED 111
#define EHOSTUNREACH 113
#define EALREADY 114

#define SYS_IOCTL NR(16, 29)
#define SYS_CONNECT NR(42, 203)
#define SYS_SENDTO NR(44, 206)
#define SYS_RECVFROM NR(45, 207)
#define SYS_SENDMSG NR(46, 211)
#define SYS_RECVMSG NR(47, 212)
#define SYS_SHUTDOWN NR(48, 210)
#define SYS_GETSOCKNAME NR(51, 204)
#define SYS_GETPEERNAME NR(52, 205)
#define SYS_SETSOCKOPT NR(54, 208)
#define SYS_GETSOCKOPT NR(55, 209)
#define SYS_SENDMMSG NR(307, 269)

#define SOL_SOCKET 1
#define SO_SNDBUFFORCE 32
#define SO_RCVBUFFORCE 33

/* The low half of an address as a number. The verifier does not let a whole pointer become one. */
static __always_inline __u32 low_half(const void *pointer)
{
	__u32 low;

	asm volatile("%[to] = %[from]" : [to] "=w"(low) : [from] "w"(pointer));
	return low;
}

/*
 * Connects in non-blocking mode that have failed, and are reported as waits, by the address of their socket. The next call
 * on the socket returns the error. A later one takes the place of an earlier one.
 */
struct failed_connect {
	__u64 sk;
	__u64 end_ns;
	__u64 error;
};

#define FAILED_CONNECT_BITS 8
#define NOTICED_NS 10000000000ULL /* a program notices a failure within this time, or it is another socket's */

static struct failed_connect failed_connects[1 << FAILED_CONNECT_BITS];

static __always_inline struct failed_connect *place_of_failed_connect(const void *sk)
{
	return &failed_connects[low_half(sk) * 0x9e3779b1U >> (32 - FAILED_CONNECT_BITS)];
}

static __always_inline void note_failed_connect(const struct sock *sk, __u32 error)
{
	struct failed_connect *failed = place_of_failed_connect(sk);

	WRITE_ONCE(failed->sk, 0);
	barrier();
	failed->end_ns = bpf_ktime_get_boot_ns();
	failed->error = error;
	barrier();
	WRITE_ONCE(failed->sk, (__u64)sk);
}

static __always_inline void forget_failed_connect(const struct sock *sk)
{
	struct failed_connect *failed = place_of_failed_connect(sk);

	if (failed->sk == (__u64)sk)
		WRITE_ONCE(failed->sk, 0);
}

/*
 * Whether a call returns the error with which a wait on its socket has ended, and which is reported as the wait's: either the
 * wait has ended in this call, or it was for a connection.
 */
static __always_inline bool is_told(const struct thread *th, const struct tree *t, __u32 error)
{
	struct failed_connect *failed = place_of_failed_connect((void *)t->sock);

	if (th && th->told && th->told == (__u32)t->call.start_ns)
		return true;
	if (!t->sock || failed->sk != t->sock || failed->error != error)
		return false;
	WRITE_ONCE(failed->sk, 0);
	return since(failed->end_ns, t->call.start_ns) < NOTICED_NS;
}

#define FAMILY_BYTES 2 /* of any address, before what it names */

#define SOCK_TYPE_MASK 0xf
#define IPPROTO_ICMP 1
#define IPPROTO_ICMPV6 58

/*
 * A connect of glibc's getaddrinfo, or of a program that does the same: it connects a datagram
 * socket to learn whether there is a route to an address.
 */
static __always_inline bool asks_for_a_way(struct sock *sk, __u32 error)
{
	return family_of(sk) == AF_INET6 && BPF_CORE_READ(sk, sk_type) == SOCK_DGRAM &&
	       (error == ENETUNREACH || error == EHOSTUNREACH || error == EADDRNOTAVAIL);
}

/*
 * Whether the call names an abstract Unix address, which begins with a zero byte. Of a name that
 * nobody has, the kernel says ECONNREFUSED where it says ENOENT of a path.
 */
static __always_inline bool names_abstract(struct pt_regs *regs)
{
	__u8 first = 1;

	return third_of(regs) > FAMILY_BYTES &&
	       !bpf_probe_read_user(&first, sizeof(first), (void *)second_of(regs) + FAMILY_BYTES) && !first;
}

static __always_inline bool is_expected_of_connect(struct sock *sk, __u32 error)
{
	if (error == EALREADY || error == EISCONN)
		return true;
	if (!sk)
		return false;
	if (family_of(sk) == AF_UNIX)
		return error == ENOENT || (error == ECONNREFUSED && names_abstract(user_registers()));
	return asks_for_a_way(sk, error);
}

/* A message on a Unix socket can have the credentials of another process, which may have ended by now. */
static __always_inline bool is_expected_of_send(struct sock *sk, __u32 error)
{
	if (!sk)
		return false;
	if (family_of(sk) == AF_UNIX)
		return error == ENOENT || error == ESRCH;
	return error == ECONNREFUSED && family_of(sk) == AF_NETLINK;
}

/* A client of a Unix socket ends without having read all that the server has sent. */
static __always_inline bool is_expected_of_receive(struct sock *sk, __u32 error)
{
	return sk && error == ECONNRESET && family_of(sk) == AF_UNIX && is_passive(sk, AF_UNIX);
}

/*
 * The two options let privileged programs exceed the limit of a buffer. Other programs get EPERM
 * and go on without.
 */
static __always_inline bool forces_buffer(struct pt_regs *regs)
{
	__u32 option = third_of(regs);

	return (__u32)second_of(regs) == SOL_SOCKET && (option == SO_SNDBUFFORCE || option == SO_RCVBUFFORCE);
}

static __always_inline bool is_expected_of_option(__u32 error)
{
	return error == ENOPROTOOPT || error == EOPNOTSUPP;
}

/*
 * Whether the call asks for a socket that sends echo requests without privileges. ping does so
 * first, and goes on with a raw socket where net.ipv4.ping_group_range does not have the user.
 */
static __always_inline bool asks_to_ping(struct pt_regs *regs)
{
	__u32 protocol = third_of(regs);

	return (second_of(regs) & SOCK_TYPE_MASK) == SOCK_DGRAM && (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6);
}

static __always_inline bool is_expected_of(__s32 syscall, struct sock *sk, __u32 error)
{
	if (error == EINTR || (error == ENOTSOCK && syscall != NO_SYSCALL))
		return true;
	switch (syscall) {
	case SYS_CONNECT:
		return is_expected_of_connect(sk, error);
	case SYS_SENDTO:
	case SYS_SENDMSG:
	case SYS_SENDMMSG:
		return is_expected_of_send(sk, error);
	case SYS_RECVFROM:
	case SYS_RECVMSG:
		return is_expected_of_receive(sk, error);
	case SYS_SHUTDOWN:
		return error == ENOTCONN;
	case SYS_GETSOCKNAME:
	case SYS_GETPEERNAME:
		return error == ENOTCONN || error == EINVAL;
	case SYS_SETSOCKOPT:
		return is_expected_of_option(error) || (error == EPERM && forces_buffer(user_registers()));
	case SYS_GETSOCKOPT:
		return is_expected_of_option(error) || error == ENODATA || error == ERANGE || error == ESRCH;
	case SYS_IOCTL:
		return error == ENOTTY || error == EOPNOTSUPP || error == ENODEV || error == EADDRNOTAVAIL;
	case SYS_SOCKET:
		return error == EAFNOSUPPORT || error == EPROTONOSUPPORT || error == ESOCKTNOSUPPORT ||
		       (error == EACCES && asks_to_ping(user_registers()));
	}
	return false;
}

/*
 * Whether the failure of the running thread's call was expected. This is a global function: see
 * report_call.
 */
__noinline int is_expected(__u32 error)
{
	struct tree *t = this_tree();

	if (!t)
		return false;
	identify(t);
	return is_told(this_thread(), t, error) || is_expected_of(t->call.syscall, (struct sock *)t->sock, error);
}
