// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * interfaces - which network interfaces exist, and what is known of each.
 *
 * Hooks:   iter task, or a run (6.7)  at each survey: the devices of each namespace that
 *                     has a process, and the namespaces that have none
 * Output:  maps interfaces and namespaces. Instruments add devices that they meet before
 *          a survey has found them: lib/device/interface.h.
 * Loss:    an interface has no name if the map is full, or if its namespace has used up
 *          its share. The latter is counted: lib/program/quota.h.
 * Needs:   BTF, Linux 5.10.
 */
#include "lib/device/interface.h"
#include "lib/kernel/tasks.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct namespace_entry {
	__u64 epoch; /* of the last survey that found it */
	__u32 inode;
	__u32 pid;   /* of a process in it; 0: it has none, so its devices were not surveyed */
	__u32 whole; /* all its devices were surveyed */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct namespace_entry);
} namespaces SEC(".maps");

/* Inode of the host's network namespace, the one kernel threads are in. */
__u32 host_netns_inode;

/* The last survey that began to look for namespaces, and the last one that found all. */
__u64 begun, found_all;

#define MAX_TURNS 8192      /* devices of one namespace, or namespaces */
#define MAX_TURNS_5_16 256  /* before there was bpf_loop(), when each turn is verified */

/* A walk through the devices of a namespace, or through all namespaces. */
struct walk {
	struct list_head *head;
	struct list_head *at;
	__u64 netns;     /* the namespace of the devices */
	const void *ops; /* the operations of namespaces, which the head of the list does not have */
};

static __always_inline void walk_along(struct walk *w, struct list_head *head)
{
	w->head = head;
	w->at = BPF_CORE_READ(head, next);
}

static __always_inline long know_next(struct walk *w)
{
	struct list_head *at = w->at;

	if (!at || at == w->head)
		return 1;
	know_device((__u64)at - bpf_core_field_offset(struct net_device, dev_list), w->netns);
	w->at = BPF_CORE_READ(at, next);
	return 0;
}

static __always_inline void find_namespace(struct net *net)
{
	struct namespace_entry *known, entry = { .epoch = current_epoch() };
	__u64 netns = netns_id(net);

	known = bpf_map_lookup_elem(&namespaces, &netns);
	if (known && known->epoch == entry.epoch)
		return;
	entry.inode = BPF_CORE_READ(net, ns.inum);
	bpf_map_update_elem(&namespaces, &netns, &entry, BPF_ANY);
}

static __always_inline long find_next(struct walk *w)
{
	struct list_head *at = w->at;
	struct net *net;

	if (!at || at == w->head)
		return 1;
	net = (void *)at - bpf_core_field_offset(struct net, list);
	if (BPF_CORE_READ(net, ns.ops) == w->ops)
		find_namespace(net);
	w->at = BPF_CORE_READ(at, next);
	return 0;
}

static __always_inline struct net *netns_of_task(struct task_struct *task)
{
	if (!task || task->exit_state || task->pid != task->tgid)
		return NULL;
	return BPF_CORE_READ(task, nsproxy, net_ns); /* NULL once the task exits */
}

/* Lets the host's namespace have entries as long as there is room. */
static __always_inline void exempt(__u64 netns)
{
	struct share_key key = { .holder = netns, .of = SHARE_OF_INTERFACES };
	struct share unlimited = { .limit = UNLIMITED };

	bpf_map_update_elem(&interface_shares, &key, &unlimited, BPF_ANY);
}

/* Begins a walk through the devices of a task's namespace, unless this survey has been there. */
static __always_inline bool enter(struct walk *w, struct task_struct *task, struct net *net)
{
	struct namespace_entry *known, entry = { .epoch = current_epoch() };

	w->netns = netns_id(net);
	entry.inode = BPF_CORE_READ(net, ns.inum);
	entry.pid = task->tgid;
	if (task->flags & PF_KTHREAD)
		host_netns_inode = entry.inode;
	/* process 1 is the first task, before any thread of the kernel */
	if (task->flags & PF_KTHREAD || task->tgid == 1)
		exempt(w->netns);
	known = bpf_map_lookup_elem(&namespaces, &w->netns);
	if (known && known->epoch == entry.epoch && known->pid)
		return false;
	bpf_map_update_elem(&namespaces, &w->netns, &entry, BPF_ANY);
	walk_along(w, (void *)net + bpf_core_field_offset(struct net, dev_base_head));
	return true;
}

/* Begins a walk through all namespaces, starting after that of the survey's first task. */
static __always_inline bool begin(struct walk *w, struct net *net)
{
	__u64 epoch = current_epoch();

	if (begun == epoch)
		return false;
	begun = epoch;
	w->ops = BPF_CORE_READ(net, ns.ops);
	walk_along(w, (void *)net + bpf_core_field_offset(struct net, list));
	return true;
}

static __always_inline bool is_through(struct walk *w)
{
	return w->at == w->head;
}

static __always_inline void leave(struct walk *w)
{
	struct namespace_entry *entry = bpf_map_lookup_elem(&namespaces, &w->netns);

	if (entry)
		entry->whole = is_through(w);
}

static __always_inline void end(struct walk *w)
{
	if (is_through(w))
		found_all = begun;
}

static long survey_device(__u32 turn, struct walk *w)
{
	return know_next(w);
}

static long survey_namespace(__u32 turn, struct walk *w)
{
	return find_next(w);
}

static __always_inline void survey_from(struct task_struct *task, struct net *net)
{
	struct walk w = {};

	if (begin(&w, net)) {
		bpf_loop(MAX_TURNS, survey_namespace, &w, 0);
		end(&w);
	}
	if (enter(&w, task, net)) {
		bpf_loop(MAX_TURNS, survey_device, &w, 0);
		leave(&w);
	}
}

SEC("raw_tp/run")
int survey_interfaces(void *ctx)
{
	struct bpf_iter_task tasks;
	struct task_struct *task;
	struct net *net, *last = NULL;

	bpf_iter_task_new(&tasks, NULL, TASK_ITER_ALL_THREADS);
	while ((task = bpf_iter_task_next(&tasks))) {
		net = netns_of_task(task);
		if (!net || (net == last && !(task->flags & PF_KTHREAD)))
			continue; /* as with most processes, the one before was in the same namespace */
		last = net;
		survey_from(task, net);
	}
	bpf_iter_task_destroy(&tasks);
	return 0;
}

/* up to 6.6 */
SEC("iter/task")
int survey_interfaces_6_6(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct net *net = netns_of_task(task);

	if (net)
		survey_from(task, net);
	return 0;
}

/* up to 5.16 */
SEC("iter/task")
int survey_interfaces_5_16(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct net *net = netns_of_task(task);
	struct walk w = {};

	if (!net)
		return 0;
	if (begin(&w, net)) {
		for (int i = 0; i < MAX_TURNS_5_16; i++)
			if (find_next(&w))
				break;
		end(&w);
	}
	if (!enter(&w, task, net))
		return 0;
	for (int i = 0; i < MAX_TURNS_5_16; i++)
		if (know_next(&w))
			break;
	leave(&w);
	return 0;
}
