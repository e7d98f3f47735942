/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/address.h"
#include "../kernel/interrupt.h"
#include "wait.h"

/*
 * Which calls are wanted. A filter that is not set lets every call through; the maps hold what a
 * filter lets through.
 */
__u32 own_pid; /* the Collector's: reporting its calls would cause more of them */

bool filters_pids;
bool filters_any; /* a filter beside filters_pids applies when a call begins: one of the next four */
bool filters_commands, filters_users, filters_cgroups, filters_syscalls;
bool filters_connections; /* one of the next two applies, to the ends of a connection */
bool filters_addresses, filters_ports;
__u32 filters_version; /* changes whenever a filter changes; never 0 */

struct command {
	char name[COMM_SIZE];
};

struct prefix {
	__u32 length; /* number of leading bits of address to compare */
	__u8 address[16];
};

#define FILTER_ENTRIES 1024

#define FILTER(name, key_type)                           \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_HASH);         \
		__uint(map_flags, BPF_F_NO_PREALLOC);    \
		__uint(max_entries, FILTER_ENTRIES);     \
		__type(key, key_type);                   \
		__type(value, __u8);                     \
	} name SEC(".maps")

FILTER(pids, __u32);
FILTER(commands, struct command);
FILTER(users, __u32); /* real user id */
FILTER(syscalls, __u32);
FILTER(ports, __u16); /* host byte order */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096); /* the cgroups named in the configuration and all below them */
	__type(key, __u64);
	__type(value, __u8);
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FILTER_ENTRIES);
	__type(key, struct prefix);
	__type(value, __u8);
} addresses SEC(".maps");

static __always_inline bool is_wanted_command(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct command command = {};

	bpf_probe_read_kernel_str(command.name, sizeof(command.name), leader->comm);
	return bpf_map_lookup_elem(&commands, &command);
}

static __always_inline bool is_wanted_user(void)
{
	__u32 user = bpf_get_current_uid_gid();

	return bpf_map_lookup_elem(&users, &user);
}

static __always_inline bool is_wanted_cgroup(void)
{
	__u64 cgroup = bpf_get_current_cgroup_id();

	return bpf_map_lookup_elem(&cgroups, &cgroup);
}

static __always_inline bool is_wanted_syscall(__u32 number)
{
	return bpf_map_lookup_elem(&syscalls, &number);
}

/*
 * Whether the filters let the running thread's next call through. This is a global function: see
 * report_call.
 */
__noinline int is_let_through(__s32 syscall)
{
	return (!filters_commands || is_wanted_command()) && (!filters_users || is_wanted_user()) &&
	       (!filters_cgroups || is_wanted_cgroup()) && (!filters_syscalls || is_wanted_syscall(syscall));
}

/* Whether the running thread's next call may be wanted. */
static __always_inline bool is_wanted_here(__s32 syscall)
{
	__u32 pid = THIS_TASK(tgid);

	if (pid == own_pid || is_thread_of_cpu() || syscall == IN_USER_MODE)
		return false;
	if (filters_pids && !bpf_map_lookup_elem(&pids, &pid))
		return false;
	return !filters_any || is_let_through(syscall);
}

/*
 * The same for a thread that has a place in threads. Unless a filter depends on more than the
 * thread, the answer is kept.
 */
static __always_inline bool is_wanted_of(struct thread *th, __s32 syscall)
{
	if (th->wanted == filters_version && syscall >= 0)
		return true;
	if (!is_wanted_here(syscall))
		return false;
	if (!filters_any && syscall >= 0) {
		th->wanted = filters_version;
		leave_loop(th); /* min_duration may be another one, too */
	}
	return true;
}

static __always_inline bool is_wanted_address(const __u8 *local, const __u8 *peer)
{
	struct prefix prefix = {.length = 128};

	__builtin_memcpy(prefix.address, local, 16);
	if (bpf_map_lookup_elem(&addresses, &prefix))
		return true;
	__builtin_memcpy(prefix.address, peer, 16);
	return bpf_map_lookup_elem(&addresses, &prefix);
}

static __always_inline bool is_wanted_port(__u16 local, __u16 peer)
{
	return bpf_map_lookup_elem(&ports, &local) || bpf_map_lookup_elem(&ports, &peer);
}

/* Whether the filters let the connection through. The call has its addresses and ports by now. */
static __always_inline bool is_wanted_connection(struct call *call)
{
	if (filters_ports && !is_wanted_port(call->local_port, call->peer_port))
		return false;
	return !filters_addresses || is_wanted_address(call->local_address, call->peer_address);
}

/* Whether the filters let a socket through, by its addresses and ports. */
static __always_inline bool is_wanted_socket(struct sock *sk)
{
	__u8 local[16] = {}, peer[16] = {};
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	bool has_ports = family == AF_INET || family == AF_INET6;

	if (filters_ports && !(has_ports && is_wanted_port(local_port_of(sk), peer_port_of(sk))))
		return false;
	if (!filters_addresses)
		return true;
	if (has_ports)
		note_addresses(local, peer, sk, false);
	return is_wanted_address(local, peer);
}
