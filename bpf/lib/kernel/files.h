/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "current.h"

/*
 * The socket of a file, or NULL if it is no socket. Only the file of a socket and its struct socket
 * point at each other.
 */
static __always_inline struct sock *sock_of_file(struct file *file)
{
	struct socket *socket = BPF_CORE_READ(file, private_data);

	if (!file || BPF_CORE_READ(socket, file) != file)
		return NULL;
	return BPF_CORE_READ(socket, sk);
}

/* Whether a file has one reference, which is that of a descriptor. */
static __always_inline bool is_only_reference(struct file *file)
{
	if (bpf_core_field_exists(file->f_ref))
		return !BPF_CORE_READ(file, f_ref.refcnt.counter);
	return BPF_CORE_READ((struct file___before_6_13 *)file, f_count.counter) == 1;
}

/* The running task's open file with the descriptor fd, or NULL. */
static __always_inline struct file *file_of_fd(long fd)
{
	struct file **slots, *file = NULL;
	struct fdtable *table;
	unsigned int limit;

	if (with_current_task) {
		struct files_struct *files = current_task()->files;

		table = files ? files->fdt : NULL;
		if (!table)
			return NULL;
		limit = table->max_fds;
		slots = table->fd;
	} else {
		table = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), files, fdt);
		limit = BPF_CORE_READ(table, max_fds);
		slots = BPF_CORE_READ(table, fd);
	}
	if (fd >= 0 && fd < limit)
		bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
	return file;
}
