// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * cgroups - the path of each cgroup while it exists.
 *
 * Hooks:   tp_btf cgroup_mkdir   a cgroup was made
 *          tp_btf cgroup_rmdir   a cgroup was removed
 *          Both fire for each hierarchy; only that of cgroup v2 is wanted.
 * Output:  ring cgroup_changes, one record for each. User space is not woken, and drains
 *          it when it looks for a path, and at each collection.
 * Loss:    STAT_LOST_RING_FULL if user space is too slow; STAT_LOST_UNREADABLE for a
 *          path that is longer than what the kernel passes on.
 * Needs:   BTF, Linux 5.10.
 */
#include "lib/program/stats.h"
#include "lib/program/selftest.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PATH_SIZE 1024 /* TRACE_CGROUP_PATH_LEN */

struct cgroup_change {
	__u64 id;             /* inode number of its directory */
	char path[PATH_SIZE]; /* only as many bytes as it has; none if the cgroup was removed */
};

/* Room for 2,000 cgroups of Kubernetes' containers, or for 4,000 others, that come and go. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19);
} cgroup_changes SEC(".maps");

/* The hooks run under a spin lock, so that no run can interrupt another one on its CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cgroup_change);
} scratch SEC(".maps");

static __always_inline bool is_wanted(struct cgroup *cgroup)
{
	return BPF_CORE_READ(cgroup, root, hierarchy_id) == 0;
}

static __always_inline void report(struct cgroup_change *change, __u32 size)
{
	count_stat(STAT_SEEN);
	if (bpf_ringbuf_output(&cgroup_changes, change, size, BPF_RB_NO_WAKEUP))
		count_stat(STAT_LOST_RING_FULL);
}

bool fired_note_new;

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(note_new, struct cgroup *cgroup, const char *path)
{
	struct cgroup_change *change;
	__u32 zero = 0, size;
	long length;

	if (!is_enabled(&fired_note_new) || !is_wanted(cgroup))
		return 0;
	change = bpf_map_lookup_elem(&scratch, &zero);
	if (!change)
		return 0; /* never */
	change->id = BPF_CORE_READ(cgroup, kn, id);
	length = bpf_probe_read_kernel_str(change->path, PATH_SIZE, path);
	if (length <= 1 || length >= PATH_SIZE) {
		count_stat(STAT_SEEN);
		count_stat(STAT_LOST_UNREADABLE);
		return 0;
	}
	size = length;
	if (size > PATH_SIZE)
		size = PATH_SIZE;
	report(change, offsetof(struct cgroup_change, path) + size);
	return 0;
}

bool fired_note_removed;

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(note_removed, struct cgroup *cgroup, const char *path)
{
	struct cgroup_change *change;
	__u32 zero = 0;

	if (!is_enabled(&fired_note_removed) || !is_wanted(cgroup))
		return 0;
	change = bpf_map_lookup_elem(&scratch, &zero);
	if (!change)
		return 0; /* never */
	change->id = BPF_CORE_READ(cgroup, kn, id);
	report(change, offsetof(struct cgroup_change, path));
	return 0;
}
