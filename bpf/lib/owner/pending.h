/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "known.h"
#include "handshakes.h"

static __always_inline bool count_on_listener(struct owner *owner, struct traffic_key *key, const struct count *c)
{
	switch (account_of_listener(owner->listener, key, c)) {
	case ACCOUNT_WAITING:
		return true;
	case ACCOUNT_PROCESS:
		return count_process(key, c);
	default: /* there is no room for its owner */
		key->number = heir_of(owner, 0, 0);
		return count_process(key, c);
	}
}

/* Keeps c with the socket until a process uses the socket; true if the interface may be new. */
static __always_inline bool count_unused(void *sk, struct owner *owner, struct traffic_key *key,
					 const struct count *c)
{
	bool kept = false, new;
	struct pending *p;

	if (owner && owner->listener && owner->listener == address_of(sk))
		return count_on_listener(owner, key, c);
	p = make_pending(sk);
	if (p && !p->since_ns)
		p->since_ns = bpf_ktime_get_ns();
	for (int i = 0; i < WAITING_PARTS && p && !kept; i++)
		kept = keep_in_part(&p->parts[i], key, c);
	if (!kept) {
		key->number = heir_of(owner, 0, 0);
		return count_process(key, c);
	}
	new = add_to_account(key->netns, key->ifindex, ACCOUNT_WAITING, key->direction, c);
	if (__sync_fetch_and_add(&p->taken, 0))
		credit(p, heir_of(owner, 0, 0)); /* its user came just now */
	return new;
}

/* Credits what was kept with the socket, if anything was. */
static __always_inline bool settle(void *sk, __u64 number)
{
	struct pending *p = pending_of(sk);

	if (p)
		credit(p, number);
	return p;
}

/* Makes a process the owner of a socket; true if it had no owner before. */
static __always_inline bool hand_over(struct owner *owner, __u64 number, const struct instance *who)
{
	__u64 was = __sync_lock_test_and_set(&owner->number, number);

	forget_known();
	if (is_used(was))
		return false;
	if (owner->listener)
		use_listener(owner->listener, number, who);
	return true;
}

/*
 * The process that last used a socket, by the socket's address alone, or NULL if it is
 * not known.
 */
static __always_inline struct owner *owner_of(void *sk)
{
	struct owner *owner = stored_owner(sk);
	struct instance who;
	__u64 address;
	struct user *user;

	if (!with_users)
		return owner;
	address = address_of(sk);
	user = bpf_map_lookup_elem(&socket_users, &address);
	if (!user)
		return owner;
	if (!owner)
		owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return NULL;
	if (owner->number == user->number || owner->listener == address)
		return owner;
	who = user->who;
	if (hand_over(owner, user->number, &who))
		settle(sk, user->number);
	return owner;
}
