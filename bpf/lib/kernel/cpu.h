/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "types.h"

/*
 * Memory that each CPU has for itself. A variable that is declared with OF_CPU has a section of its
 * own, which user space makes so large that there is one of it for each CPU. It is found by a
 * multiplication, in half as many instructions as the value of a map of type PERCPU_ARRAY. As there,
 * a program may be interrupted by another one on its CPU that uses the same memory.
 *
 * Go: rewrite.ForCPUs.
 */
#define OF_CPU(name) SEC(".data.cpu_" #name)

/*
 * The number of this CPU. The helper is called in a way that lets the compiler call it once in a
 * program. User space replaces the constant by a mask that fits the number of CPUs.
 */
static __always_inline __u64 this_cpu(void)
{
	register __u64 cpu asm("r0");

	asm("call %[helper]\n"
	    "%[cpu] &= 0x7a44"
	    : [cpu] "=r"(cpu)
	    : [helper] "i"(BPF_FUNC_get_smp_processor_id)
	    : "r1", "r2", "r3", "r4", "r5");
	return cpu;
}

/* The address of a variable at an index in its section, of which the compiler knows only the first. */
#define AT(variable, index)                                                   \
	({                                                                    \
		void *first = &(variable);                                    \
		asm("" : "+r"(first));                                        \
		(typeof(variable) *)(first + (index) * sizeof(variable));     \
	})

#define HERE(variable) AT(variable, this_cpu())
