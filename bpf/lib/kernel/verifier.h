/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "types.h"

/*
 * What is written otherwise than one would, because the kernel's verifier has to follow it. None
 * of it changes what a program does. What is here is for all kernels from 5.10 to 7.3.
 *
 * Two more devices are where they are used. A __noinline function that is not static is verified
 * once, by the types of its arguments, and not at each call: it bounds how much older
 * verifiers, which give up at a million instructions, have to look at. Before Linux 5.12 its
 * arguments may not be pointers, so addresses are handed over as numbers. And bpf_loop (5.17) verifies the body of a loop once.
 */

/*
 * Keeps the compiler from computing with a value before it was checked. It likes to check one
 * register and to use another that held the same, and the verifier knows limits by the register.
 */
#define CHECKED(value) asm volatile("" : "+r"(value))

/*
 * Limits an index that was compared with its limit before: the compiler knows that and would leave
 * out a mask, and the verifier may have lost sight of it. The mask is a power of two less one, and
 * not less than the limit.
 */
#define LIMITED(index, mask) asm volatile("%0 &= " #mask : "+r"(index))

/* A pointer as a number: through memory, for the verifier takes the one for the other nowhere. */
static __always_inline __u64 address_of(void *pointer)
{
	void *held = pointer;
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &held);
	return address;
}

/*
 * The same without a call, through a slot of a map: what is read of one is a number to the
 * verifier, which does not let a pointer that it knows of be hashed.
 */
static __always_inline __u64 address_through(__u64 *slot, const void *pointer)
{
	*(volatile __u64 *)slot = (__u64)pointer;
	return *(volatile __u64 *)slot;
}
