/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../process/process.h"

/*
 * The number by which a process is counted is one word, so that nobody sees a part
 * of it changed:
 *
 *   bits 63 to 32   how many processes got a number before; all ones is a process
 *                   beyond max_processes
 *   31              it has used the socket; a socket that nobody has used yet has
 *                   the number of who may get its bytes without it
 *   30 to 0         a mark that tells the process from others that use the same socket
 */
#define NOBODY 0ULL
#define USED 0x80000000ULL
#define BEYOND 0xffffffff80000000ULL

static __always_inline bool is_used(__u64 number)
{
	return (__s32)number < 0;
}

/* Whether a number that is_used is one of a process beyond max_processes. */
static __always_inline bool is_beyond(__u64 number)
{
	return number > BEYOND; /* a mark is never 0 */
}

/* The low half of a process's number. */
static __always_inline __u32 mark_of(const struct process *p)
{
	__u64 who = p->start_ns ^ ((__u64)p->exec_id << 32 | p->pid), user = (__u64)p->uid << 32 | p->real_uid;

	return (who + user * 0xd6e8feb86659fd93ULL) * 0x9e3779b97f4a7c15ULL >> 33 | USED | 1;
}

/*
 * The number of a process beyond max_processes that has this mark. It never equals the
 * number of a process with a place, so such a process is looked up again.
 */
static __always_inline __u64 number_beyond(__u32 mark)
{
	return BEYOND | (mark ^ 2);
}

struct process_entry {
	__u64 number; /* 0 while it is being made */
	__u64 round; /* of the last survey that found it alive */
	struct process_seen seen;
};

/*
 * Every process that has used a socket. User space sets the size, and removes processes
 * that have ended.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct process);
	__type(value, struct process_entry);
} processes SEC(".maps");

/*
 * The process that made a socket, which may be in no other map. Most sockets are used
 * by some process, so it is enough to keep the last few thousand.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct process);
	__type(value, struct process_entry); /* without a number yet */
} makers SEC(".maps");

enum numbering_key {
	LAST_NUMBER,
	ROUND, /* set by user space before a survey; processes with this number are alive */
	NUMBERINGS,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NUMBERINGS);
	__type(key, enum numbering_key);
	__type(value, __u64);
} numbering SEC(".maps");

static __always_inline __u64 current_round(void)
{
	enum numbering_key key = ROUND;
	__u64 *round = bpf_map_lookup_elem(&numbering, &key);

	return round ? *round : 0;
}

const struct process_entry unknown = {};

/* Gives a process a place, and its entry a number. */
static __always_inline __u64 enter_process(const struct process *process)
{
	struct process_entry *known = bpf_map_lookup_elem(&makers, process), *entry;
	enum numbering_key key = LAST_NUMBER;
	__u64 *last, number, was;

	if (known)
		bpf_map_update_elem(&processes, process, known, BPF_NOEXIST);
	else
		bpf_map_update_elem(&processes, process, &unknown, BPF_NOEXIST);
	entry = bpf_map_lookup_elem(&processes, process); /* another CPU may have added it */
	last = bpf_map_lookup_elem(&numbering, &key);
	if (!entry || !last)
		return number_beyond(mark_of(process));
	number = (__sync_fetch_and_add(last, 1) + 1) << 32 | mark_of(process);
	if (!entry->seen.first_ns)
		entry->seen.first_ns = bpf_ktime_get_boot_ns();
	entry->round = current_round();
	was = __sync_val_compare_and_swap(&entry->number, 0, number);
	return was ? was : number;
}

/* The number of a process that made a socket, and may be gone. */
__noinline __u64 number_of_maker(const struct process *maker)
{
	struct process_entry *entry;
	struct process key;

	if (!maker)
		return NOBODY;
	key = *maker; /* before 6.2 a map's key may not be an argument */
	entry = bpf_map_lookup_elem(&processes, &key);
	return entry && entry->number ? entry->number : enter_process(&key);
}

static __always_inline void remember_maker(const struct process *maker, struct task_struct *task)
{
	struct process_entry new = {};

	if (bpf_map_lookup_elem(&makers, maker))
		return;
	see_process(&new.seen, task);
	bpf_map_update_elem(&makers, maker, &new, BPF_ANY);
}

static __always_inline __u64 number_of(const struct process *process, struct task_struct *task)
{
	struct process_entry *entry = bpf_map_lookup_elem(&processes, process);

	if (entry && entry->number)
		return entry->number;
	remember_maker(process, task);
	return number_of_maker(process);
}
