/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "listener.h"

/* The number of the process that owns the listener at an address. */
static __always_inline __u64 number_of_listener(__u64 address)
{
	struct listener *l = bpf_map_lookup_elem(&listeners, &address);

	return l && !is_orphan(l) ? l->number : NOBODY;
}

/*
 * The number of the process that owns a socket; NOBODY if it is unknown. owner is the content of
 * the socket's storage, and may be NULL.
 */
static __always_inline __u64 number_of_owner(struct sock *sk, const struct owner *owner)
{
	__u64 address = (__u64)sk, number;
	struct user *user;

	if (with_users) {
		user = bpf_map_lookup_elem(&socket_users, &address);
		if (user)
			return user->number;
	}
	number = owner ? READ_ONCE(owner->number) : NOBODY;
	if (is_used(number)) /* nearly always: heir_of asks it too, and is a call */
		return number;
	return heir_of(owner, 0, 0);
}
