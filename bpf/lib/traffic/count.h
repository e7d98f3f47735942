/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/cpu.h"
#include "../owner/owner.h"
#include "../packet/packet.h"
#include "../program/quota.h"

/*
 * Whom the bytes of an interface belong to. ARRIVED is everything that was received;
 * without what the other accounts claimed of it, it is the account "unclaimed". WAITING
 * is what struct pending holds now, and the only account that can shrink.
 */
enum account {
	ACCOUNT_PROCESS, /* its entries are in map traffic */
	ACCOUNT_ARRIVED,
	ACCOUNT_REQUEST,
	ACCOUNT_TIME_WAIT,
	ACCOUNT_KERNEL,
	ACCOUNT_FORWARDED,
	ACCOUNT_NO_SOCKET,
	ACCOUNT_UNOWNED,
	ACCOUNT_OVERFLOW,
	ACCOUNT_WAITING,
	ACCOUNT_CARRIED, /* packets of a process on a device below the one where map traffic has them */
};

struct traffic_key {
	__u64 number; /* the process's: struct process_entry */
	__u64 netns;  /* the device's: struct net's cookie */
	__u32 ifindex;
	__u16 type;      /* ethertype in host byte order; 0 if types are not told apart */
	__u8 transport;  /* IP protocol; 0 where not asked for */
	__u8 direction;  /* enum direction */
};

struct account_key {
	__u64 netns;
	__u32 ifindex;
	enum account account;
	enum direction direction;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct traffic_key);
	__type(value, struct count);
} traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct account_key);
	__type(value, struct count);
} accounts SEC(".maps");

/* The shares of network namespaces in both maps. */
struct share_map shares SEC(".maps");

/*
 * The kernel allocates memory for the entries of the two maps above in advance, but may
 * have none left if many entries are new at once. What finds no memory is counted here,
 * and user space adds it.
 */
#define SPARE_ENTRIES 256

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, SPARE_ENTRIES);
	__type(key, struct traffic_key);
	__type(value, struct count);
} spare_traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, SPARE_ENTRIES);
	__type(key, struct account_key);
	__type(value, struct count);
} spare_accounts SEC(".maps");

const struct count nothing = {};

/*
 * The entry of a key in a map, which is made if there is none; NULL if there is no room
 * or no memory.
 */
static __always_inline struct count *entry_of(void *map, const void *key)
{
	struct count *value = bpf_map_lookup_elem(map, key);

	if (value)
		return value;
	/* Another CPU may add it first, so the answer that counts is the second look. */
	bpf_map_update_elem(map, key, &nothing, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

/* The same for a key that its map lacks, if its namespace may have one more. */
static __always_inline struct count *new_entry_of(void *map, const void *key, __u64 netns, enum share_of of)
{
	if (!bpf_map_update_elem(map, key, &nothing, BPF_NOEXIST))
		take_place(&shares, netns, of);
	return bpf_map_lookup_elem(map, key); /* another CPU may have added it */
}

/*
 * What a CPU counts most often is in cells of its own, which are found by their place and not
 * by a hash, and added to without a lock: they are used where bottom halves are off, so that
 * nothing on the CPU comes in between. A cell belongs to the first key that finds it free.
 * Whoever finds both of its places taken is counted in the maps above. User space adds all
 * up, and frees the cells of what is gone. With PREEMPT_RT, where one soft interrupt may
 * come in between another one, it leaves none free.
 */
#define CELLS 2048 /* of a CPU */

struct cell {
	struct traffic_key key; /* of an account: number_of_account() */
	__u64 packets;
	__u64 bytes;
	__u64 more_frames;      /* than packets */
	__u64 more_frame_bytes; /* than bytes */
	__u64 pad;
};

struct cell cells OF_CPU(cells); /* of CELLS, for each of which user space makes room */

/* Of no process: the numbers of processes end in a mark that is not 0. */
static __always_inline __u64 number_of_account(enum account account)
{
	return (__u64)account << 32;
}

/* A key without its number and namespace, in one word, as in struct traffic_key. */
static __always_inline __u64 rest_of(__u32 ifindex, __u16 type, __u8 transport, enum direction direction)
{
	return ifindex | (__u64)type << 32 | (__u64)transport << 48 | (__u64)direction << 56;
}

static __always_inline __u64 *rest_of_key(const struct traffic_key *key)
{
	return (__u64 *)&key->ifindex;
}

/*
 * The place of a key's cell, if it has one. Processes with successive numbers have
 * different places.
 */
static __always_inline struct cell *cell_at(__u64 number, __u64 rest, __u32 other)
{
	__u32 at = (__u32)(number >> 32) * 2 + (__u32)rest * 74 + (__u32)(rest >> 32) + (rest >> 56);
	__u64 place = (at ^ other) & (CELLS - 1);

	asm("" : "+r"(place)); /* or it is combined by |, of which older verifiers do not know the limits */
	return AT(cells, this_cpu() * CELLS + place);
}

#define OTHER_PLACE 0x2aa

static __always_inline bool is_cell_of(const struct cell *cell, __u64 number, __u64 netns, __u64 rest)
{
	return cell->key.number == number && cell->key.netns == netns && *rest_of_key(&cell->key) == rest;
}

static __always_inline void add_to_cell(struct cell *cell, const struct count *c)
{
	cell->packets += c->packets;
	cell->bytes += c->bytes;
	if (c->frames == c->packets)
		return;
	cell->more_frames += c->frames - c->packets;
	cell->more_frame_bytes += c->frame_bytes - c->bytes;
}

static __always_inline void add_frame(struct cell *cell, __u32 bytes)
{
	cell->packets++;
	cell->bytes += bytes;
}

/*
 * The verifier checks the functions below that are not static once, and not at each
 * call. If they were inlined, older verifiers would give up because of the number of
 * paths. They have to check their pointers for NULL, because the verifier knows nothing
 * of their callers.
 */

/* Adds from any context: a soft interrupt that adds may interrupt a process that adds. */
static __always_inline void add_count(struct count *to, const struct count *c)
{
	__sync_fetch_and_add(&to->packets, c->packets);
	__sync_fetch_and_add(&to->bytes, c->bytes);
	__sync_fetch_and_add(&to->frames, c->frames);
	__sync_fetch_and_add(&to->frame_bytes, c->frame_bytes);
}

/*
 * Counts what is lost because an account has no entry. What a process or another account claims on
 * receive is in ACCOUNT_ARRIVED already, so it is not lost.
 */
static __always_inline void lose(const struct account_key *key, enum stat cause, const struct count *c)
{
	if (key->direction == TRANSMIT || key->account == ACCOUNT_ARRIVED)
		count_stats(cause, c->packets);
}

/* Adds to an account, from any context; true if the entry is new. */
__noinline int add_to_account(__u64 netns, __u32 ifindex, enum account account,
			      enum direction direction, const struct count *c)
{
	struct account_key key = {
		.netns = netns,
		.ifindex = ifindex,
		.account = account,
		.direction = direction,
	};
	struct count *value;
	bool new;

	if (!c)
		return false;
	value = bpf_map_lookup_elem(&accounts, &key);
	new = !value;
	if (new && !has_place(&shares, netns, SHARE_OF_ACCOUNTS)) {
		lose(&key, STAT_LOST_NAMESPACE_FULL, c);
		return false;
	}
	if (new)
		value = new_entry_of(&accounts, &key, netns, SHARE_OF_ACCOUNTS);
	if (!value)
		value = entry_of(&spare_accounts, &key);
	if (!value) {
		lose(&key, STAT_LOST_MAP_FULL, c);
		return false;
	}
	add_count(value, c);
	return new;
}

/*
 * Adds to a process, or to the account of processes without a place, from any context;
 * true if the entry is new.
 */
__noinline int add_to_process(const struct traffic_key *whose, const struct count *c)
{
	struct traffic_key key;
	struct count *value;
	bool new;

	if (!whose || !c)
		return false;
	key = *whose; /* before 6.2 a map's key may not be an argument */
	if (key.number == NOBODY)
		return add_to_account(key.netns, key.ifindex, ACCOUNT_UNOWNED, key.direction, c);
	if (!is_beyond(key.number)) {
		value = bpf_map_lookup_elem(&traffic, &key);
		new = !value;
		if (new && !has_place(&shares, key.netns, SHARE_OF_TRAFFIC))
			return add_to_account(key.netns, key.ifindex, ACCOUNT_OVERFLOW, key.direction, c);
		if (new)
			value = new_entry_of(&traffic, &key, key.netns, SHARE_OF_TRAFFIC);
		if (!value)
			value = entry_of(&spare_traffic, &key);
		if (value) {
			add_count(value, c);
			return new;
		}
	}
	return add_to_account(key.netns, key.ifindex, ACCOUNT_OVERFLOW, key.direction, c);
}

/* Adds to a key that has no cell at its first place; true if the key is new. */
__noinline int count_elsewhere(__u64 number, __u64 netns, __u64 rest, const struct count *c)
{
	struct cell *first = cell_at(number, rest, 0), *second = cell_at(number, rest, OTHER_PLACE);
	struct traffic_key key = { .number = number, .netns = netns };

	if (!c)
		return false;
	if (is_cell_of(second, number, netns, rest)) {
		add_to_cell(second, c);
		return false;
	}
	if (first->key.number)
		first = second;
	if (!first->key.number) {
		first->key.netns = netns;
		*rest_of_key(&first->key) = rest;
		__sync_lock_test_and_set(&first->key.number, number); /* last: then user space believes the rest */
		add_to_cell(first, c);
		return true;
	}
	if (!(__u32)number)
		return add_to_account(netns, rest, number >> 32, rest >> 56, c);
	*rest_of_key(&key) = rest;
	return add_to_process(&key, c);
}

/* Counts while bottom halves are off; true if nothing was counted for the key before. */
static __always_inline bool count(__u64 number, __u64 netns, __u64 rest, const struct count *c)
{
	struct cell *cell = cell_at(number, rest, 0);

	if (is_cell_of(cell, number, netns, rest)) {
		add_to_cell(cell, c);
		return false;
	}
	return count_elsewhere(number, netns, rest, c);
}

/* The same for one packet that is one frame, as most are. */
static __always_inline bool count_frame(__u64 number, __u64 netns, __u64 rest, __u32 bytes)
{
	struct cell *cell = cell_at(number, rest, 0);
	struct count c;

	if (is_cell_of(cell, number, netns, rest)) {
		add_frame(cell, bytes);
		return false;
	}
	c = count_of_frame(bytes);
	return count_elsewhere(number, netns, rest, &c);
}

static __always_inline bool count_account(__u64 netns, __u32 ifindex, enum account account,
					  enum direction direction, const struct count *c)
{
	return count(number_of_account(account), netns, rest_of(ifindex, 0, 0, direction), c);
}

/* The number by which a process is counted: its own if it has a place. */
static __always_inline __u64 number_to_count(__u64 number)
{
	return is_beyond(number) ? number_of_account(ACCOUNT_OVERFLOW) : number;
}

/* The same for a process, by its number or by the number_to_count() of it. */
static __always_inline bool count_process(const struct traffic_key *key, const struct count *c)
{
	__u64 number = number_to_count(key->number), rest = *rest_of_key(key);

	if (number == NOBODY)
		number = number_of_account(ACCOUNT_UNOWNED);
	if (!(__u32)number)
		rest &= ~(0xffffffULL << 32);
	return count(number, key->netns, rest, c);
}
