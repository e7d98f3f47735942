/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "types.h"

/*
 * A walk through all tasks in a program that user space runs, since Linux 6.7. An iterator program
 * sees the same tasks at several times the cost: the kernel looks up each one by its number, takes
 * a reference and calls the program.
 */
struct bpf_iter_task {
	__u64 opaque[3];
};

#define TASK_ITER_ALL_THREADS 1 /* BPF_TASK_ITER_ALL_THREADS */

extern int bpf_iter_task_new(struct bpf_iter_task *walk, struct task_struct *task, unsigned int flags) __ksym __weak;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *walk) __ksym __weak;
extern void bpf_iter_task_destroy(struct bpf_iter_task *walk) __ksym __weak;
