/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
/*
 * The kernel types nettap reads, cut down to the fields it reads.
 *
 * CO-RE finds the fields in the running kernel by name, so order and size do
 * not matter here and one object serves every little-endian machine. A field
 * that was renamed or moved between kernels gets both spellings and a comment
 * with the release that changed it.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define AF_INET 2
#define AF_INET6 10
#define AF_PACKET 17

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

#define PF_KTHREAD 0x00200000

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))

/* include/net/tcp_states.h; they are ABI (struct tcp_info) */
enum tcp_state {
	STATE_ESTABLISHED = 1,
	STATE_SYN_SENT = 2,
	STATE_SYN_RECV = 3,
	STATE_TIME_WAIT = 6,
	STATE_CLOSE = 7,
	STATE_LISTEN = 10,
	STATE_NEW_SYN_RECV = 12,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	__u32 val;
} kuid_t;

struct cred {
	kuid_t uid;
	kuid_t euid;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	void *private_data;
};

struct mm_struct {
	struct file *exe_file;
};

struct ns_common {
	unsigned int inum;
};

struct list_head {
	struct list_head *next;
};

struct net {
	struct ns_common ns;
	__u64 net_cookie; /* plain u64 since 5.12 */
	struct list_head dev_base_head;
};


struct nsproxy {
	struct net *net_ns;
};

struct task_struct {
	unsigned int flags;
	int pid;
	int tgid;
	struct task_struct *group_leader;
	__u64 start_boottime; /* ns since boot; real_start_time before 5.5 */
	__u64 self_exec_id;   /* u32 before 5.7 */
	const struct cred *cred;
	struct mm_struct *mm;
	struct nsproxy *nsproxy;
	char comm[16];
};

#pragma clang attribute pop
