/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "types.h"

/*
 * Code whose form is due to the kernel's verifier, which has to follow it. None of it changes what
 * a program does. All kernels from 5.10 to 7.3 need it.
 *
 * Two more techniques are applied in place. A __noinline function that is not static is verified
 * once, by the types of its arguments, and not at each call. This limits how much the verifier has
 * to examine, as older ones give up after a million instructions. Before Linux 5.12 an argument of
 * such a function must not be a pointer, so addresses are passed as numbers. And bpf_loop (5.17)
 * has the body of a loop verified once.
 */

/*
 * Keeps the compiler from using a value before it was checked. Otherwise it may check one register
 * and use another one that held the same value, while the verifier knows limits by the register.
 */
#define CHECKED(value) asm volatile("" : "+r"(value))

/*
 * Limits an index that was already compared with its limit. The compiler would leave out a mask,
 * because it knows of the comparison, but the verifier may have lost track of it. The mask is a
 * power of two less one, and not less than the limit.
 */
#define LIMITED(index, mask) asm volatile("%0 &= " #mask : "+r"(index))

/*
 * A value that is returned in a case which a constant decides. The compiler keeps the case apart from others that return
 * the same, because there is a jump in it, which goes nowhere. The verifier leaves it out together with the comparison.
 */
#define APART(value)                     \
	({                               \
		asm volatile("goto +0"); \
		value;                   \
	})

/*
 * Reads a field of what a pointer points to. known, a parameter of the function, tells whether the pointer has its
 * type for the verifier. Then the field is read without a helper call, which takes about 80 instructions.
 */
#define FIELD_OF(pointer, field) (known ? (pointer)->field : BPF_CORE_READ(pointer, field))

/* Copies bytes, a multiple of 8, that the verifier lets be read directly. */
#define COPY_WORDS(to, from, bytes)                                                   \
	for (int word = 0; word < (bytes) / 8; word++)                                \
	((__u64 *)(to))[word] = ((const __u64 *)(from))[word]

/*
 * Reads a bit-field of one byte through a pointer whose type the verifier knows. BPF_CORE_READ_BITFIELD, which reads
 * bit-fields of any size, takes three instructions more.
 */
#define BITS_OF(pointer, field)                                                                                 \
	({                                                                                                      \
		__u64 bits = *(__u8 *)((void *)(pointer) + __CORE_RELO(pointer, field, BYTE_OFFSET));          \
		bits << __CORE_RELO(pointer, field, LSHIFT_U64) >> __CORE_RELO(pointer, field, RSHIFT_U64);     \
	})

/*
 * A pointer as a number. It is read back from memory, because the verifier does not accept a
 * pointer as a number anywhere.
 */
static __always_inline __u64 address_of(void *pointer)
{
	void *held = pointer;
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &held);
	return address;
}

/*
 * The low half of a pointer, by which it can be hashed. The verifier does not let a known pointer be
 * hashed, but takes its low half for a number.
 */
static __always_inline __u32 hashable(const void *pointer)
{
	__u32 half;

	asm("%[half] = %[pointer]" : [half] "=w"(half) : [pointer] "w"(pointer));
	return half;
}
