/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/current.h"
#include "../kernel/verifier.h"

#define COMM_SIZE 16
#define EXECUTABLE_SIZE 64

/*
 * The identity of a process. It differs from that of a later process with the same pid, and changes
 * with an exec or a change of the user. Go: process.ID.
 */
struct process {
	__u64 start_ns; /* CLOCK_BOOTTIME, of the thread group leader */
	__u32 pid;      /* thread group id in the root pid namespace; 0: no process */
	__u32 exec_id;  /* low half of self_exec_id, which changes with each exec */
	__u32 uid;      /* effective */
	__u32 real_uid;
};

/* The identity of a process that an exec or a change of the user does not change. */
struct instance {
	__u64 start_ns;
	__u32 pid;
	__u32 pad;
};

static __always_inline struct instance instance_of(const struct process *p)
{
	struct instance instance = { .start_ns = p->start_ns, .pid = p->pid };

	return instance;
}

static __always_inline bool is_same_instance(const struct instance *a, const struct instance *b)
{
	return a->start_ns == b->start_ns && a->pid == b->pid;
}

/* What only the kernel can tell of a process that may end soon. Go: process.Seen. */
struct process_seen {
	__u64 first_ns; /* CLOCK_BOOTTIME, when it was first met */
	__u64 cgroup_id;
	char comm[COMM_SIZE]; /* of the thread group leader */
	char executable[EXECUTABLE_SIZE]; /* base name, cut at 63 bytes */
};

static __always_inline struct process process_of(struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct process p = {
		.start_ns = BPF_CORE_READ(leader, start_boottime),
		.pid = BPF_CORE_READ(task, tgid),
		.exec_id = BPF_CORE_READ(task, self_exec_id),
		.uid = BPF_CORE_READ(leader, cred, euid.val),
		.real_uid = BPF_CORE_READ(leader, cred, uid.val),
	};

	return p;
}

/* The same for a task whose type the verifier knows: its fields are read without helper calls. */
static __always_inline struct process process_of_typed(struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	const struct cred *cred = leader->cred;
	struct process p = {
		.start_ns = leader->start_boottime,
		.pid = task->tgid,
		.exec_id = task->self_exec_id,
	};

	if (cred) {
		p.uid = cred->euid.val;
		p.real_uid = cred->uid.val;
	}
	return p;
}

static __always_inline struct process current_process(void)
{
	return process_of_typed(current_task());
}

/* The running process, on any kernel. */
static __always_inline struct process running_process(void)
{
	if (with_current_task)
		return current_process();
	return process_of((struct task_struct *)bpf_get_current_task());
}

static __always_inline bool is_same_process(const struct process *a, const struct process *b)
{
	return a->start_ns == b->start_ns && a->pid == b->pid && a->exec_id == b->exec_id &&
	       a->uid == b->uid && a->real_uid == b->real_uid;
}

/* Fills seen for a task; an executable or comm that cannot be read stays empty. */
static __always_inline void see_process(struct process_seen *seen, struct task_struct *task)
{
	const unsigned char *name = BPF_CORE_READ(task, mm, exe_file, f_path.dentry, d_name.name);
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	seen->comm[0] = seen->executable[0] = 0;
	seen->first_ns = bpf_ktime_get_boot_ns();
	seen->cgroup_id = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	bpf_probe_read_kernel_str(seen->comm, sizeof(seen->comm), leader->comm);
	if (name)
		bpf_probe_read_kernel_str(seen->executable, sizeof(seen->executable), name);
}

#define SHORT_NAME 16
#define INLINE_NAME 32 /* at least as much has room in a directory entry */

/*
 * Reads the name of a directory entry, whose pointer has its type for the verifier. A short name is in the entry, and
 * its bytes are read without a helper call. What is behind the name is not cleared.
 */
static __always_inline void read_name(char *to, struct dentry *entry)
{
	struct dentry___before_6_14 *old = (struct dentry___before_6_14 *)entry;
	__u32 length = entry->d_name.len;

	if (length >= INLINE_NAME)
		bpf_probe_read_kernel_str(to, EXECUTABLE_SIZE, entry->d_name.name);
	else if (bpf_core_field_exists(old->d_iname)) {
		COPY_WORDS(to, old->d_iname, SHORT_NAME);
		if (length >= SHORT_NAME)
			COPY_WORDS(to + SHORT_NAME, old->d_iname + SHORT_NAME, INLINE_NAME - SHORT_NAME);
	} else {
		COPY_WORDS(to, entry->d_shortname.string, SHORT_NAME);
		if (length >= SHORT_NAME)
			COPY_WORDS(to + SHORT_NAME, entry->d_shortname.string + SHORT_NAME, INLINE_NAME - SHORT_NAME);
	}
}

/* The same as see_process for the running task, whose fields are read without helper calls. */
static __always_inline void see_current(struct process_seen *seen, __u64 now)
{
	struct task_struct *task = current_task();
	struct mm_struct *mm;
	struct file *executable = NULL;

	if (!with_current_task) {
		see_process(seen, (struct task_struct *)bpf_get_current_task());
		return;
	}
	mm = task->mm;
	if (mm)
		executable = mm->exe_file;
	seen->first_ns = now;
	seen->cgroup_id = task->cgroups->dfl_cgrp->kn->id;
	COPY_WORDS(seen->comm, task->group_leader->comm, COMM_SIZE);
	if (executable)
		read_name(seen->executable, executable->f_path.dentry);
	else
		seen->executable[0] = 0;
}
