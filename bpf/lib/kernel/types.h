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

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define AF_PACKET 17

#define IFF_LOOPBACK 0x8

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8
#define ETH_P_MACSEC 0x88e5

#define PF_IO_WORKER 0x00000010 /* a thread of io_uring */
#define PF_EXITING 0x00000004
#define PF_KTHREAD 0x00200000

#define O_NONBLOCK 0x800
#define MSG_OOB 1
#define MSG_DONTWAIT 0x40
#define MSG_ERRQUEUE 0x2000
#define RCV_SHUTDOWN 1
#define SEND_SHUTDOWN 2
#define SHUTDOWN_MASK 3

#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define SOCK_BINDPORT_LOCK 8 /* of sk_userlocks: the program chose the port */

#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ROUTING 43
#define IPPROTO_ESP 50
#define IPPROTO_UDPLITE 136
#define IPPROTO_MPTCP 262

/* include/linux/sched.h; trace events show them to user space */
#define TASK_RUNNING 0
#define TASK_INTERRUPTIBLE 1

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))

/* include/net/tcp_states.h; they are ABI (struct tcp_info) */
enum tcp_state {
	STATE_ESTABLISHED = 1,
	STATE_SYN_SENT = 2,
	STATE_SYN_RECV = 3,
	STATE_FIN_WAIT1 = 4,
	STATE_FIN_WAIT2 = 5,
	STATE_TIME_WAIT = 6,
	STATE_CLOSE = 7,
	STATE_CLOSE_WAIT = 8,
	STATE_LAST_ACK = 9,
	STATE_LISTEN = 10,
	STATE_NEW_SYN_RECV = 12,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	__u32 val;
} kuid_t;

struct user_namespace {
	struct user_namespace *parent;
	kuid_t owner;
};

struct cred {
	kuid_t uid;
	kuid_t euid;
	struct user_namespace *user_ns;
};

struct qstr {
	unsigned int len;
	const unsigned char *name;
};

union shortname_store {
	unsigned char string[40];
};

struct dentry {
	struct qstr d_name;
	union shortname_store d_shortname; /* d_iname before 6.14: a name that fits, also after a rename */
};

struct dentry___before_6_14 {
	unsigned char d_iname[32];
};

struct path {
	struct dentry *dentry;
};

struct file {
	struct {
		struct {
			__s64 counter;
		} refcnt;
	} f_ref; /* since 6.13; the first reference is 0 */
	unsigned int f_flags;
	struct path f_path;
	void *private_data;
};

struct file___before_6_13 {
	struct {
		__s64 counter;
	} f_count;
};

struct mm_struct {
	struct file *exe_file;
};

struct ns_common {
	const void *ops;
	unsigned int inum;
};

struct list_head {
	struct list_head *next;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct net {
	struct ns_common ns;
	__u64 net_cookie; /* a plain u64 since 5.12, an atomic before */
	struct list_head list; /* of all namespaces */
	struct list_head dev_base_head;
	struct hlist_head *dev_index_head;
};


struct nsproxy {
	struct net *net_ns;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct thread_info {
	unsigned long flags;
	__u32 status; /* x86 only */
	struct {
		__u32 count;
	} preempt; /* arm64 only; in a union */
};

struct kernfs_node {
	__u64 id; /* inode number */
};

struct cgroup_root {
	int hierarchy_id; /* 0: cgroup v2 */
};

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup *dfl_cgrp; /* of cgroup v2 */
};

struct thread_struct {
	unsigned long fsbase; /* x86 */
	struct {
		unsigned long tp_value;
	} uw; /* arm64 */
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live; /* threads that have not ended */
};

struct llist_head {
	struct llist_node *first;
};

struct task_struct {
	struct llist_head rethooks;            /* its functions whose ends are probed, from 6.0 on and not on all machines */
	struct llist_head kretprobe_instances; /* the same otherwise, from 5.11 on */
	struct signal_struct *signal;
	struct io_uring_task *io_uring; /* NULL unless the thread has used io_uring */
	struct thread_info thread_info;
	struct files_struct *files;
	unsigned int flags;
	int pid;
	int tgid;
	struct task_struct *group_leader;
	__u64 start_boottime; /* ns since boot; real_start_time before 5.5 */
	__u64 self_exec_id;   /* u32 before 5.7 */
	const struct cred *cred;
	struct css_set *cgroups;
	struct mm_struct *mm;
	int exit_state;
	struct nsproxy *nsproxy;
	char comm[16];
	void *stack;
	int softirq_disable_cnt; /* with CONFIG_PREEMPT_RT */
	unsigned long nvcsw;     /* how often it has left the CPU to wait for something */
	unsigned int __state;
	struct thread_struct thread;
};

struct task_struct___before_5_14 {
	long state;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct device {
	struct device *parent;
};

struct rtnl_link_ops {
	const char *kind; /* as in ip link add type KIND */
};

struct net_device {
	unsigned int flags;
	unsigned int priv_flags;
	unsigned short hard_header_len;
	int ifindex;
	possible_net_t nd_net;
	char name[16];
	struct list_head dev_list;
	struct hlist_node index_hlist;
	struct {
		struct list_head upper;
		struct list_head lower;
	} adj_list;
	const struct rtnl_link_ops *rtnl_link_ops; /* NULL: it is no virtual device */
	struct device dev;
};

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num; /* 0 once closed: see inet_sport */
	__u32 skc_portpair; /* both ports */
	unsigned int skc_hash; /* of both ends, once a connection has them */
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	struct {
		__s64 counter;
	} skc_cookie; /* 0: no one has asked for one */
	struct sock *skc_listener; /* of a request_sock; in a union */
};

struct wait_queue_head {
	struct list_head head;
};

struct socket_wq {
	struct wait_queue_head wait; /* what waits for the socket: threads in poll, and epoll instances that have it */
};

struct sk_buff_head {
	__u32 qlen;
};

struct rt_mutex_base {
	struct task_struct *owner;
};

/*
 * With PREEMPT_RT it is a mutex. In any other spin lock the first byte is not 0 while it is held.
 */
struct spinlock {
	struct rt_mutex_base lock;
};

struct sock {
	struct sock_common __sk_common;
	struct {
		struct spinlock slock;
		int owned; /* by a task that has locked it in a system call */
		struct wait_queue_head wq;
	} sk_lock;
	struct {
		int len;
		struct sk_buff *head;
	} sk_backlog; /* packets that came while it was owned */
	struct sk_buff_head sk_receive_queue;
	int sk_wmem_queued;
	__u8 sk_shutdown;
	int sk_err;
	int sk_sndbuf;
	struct socket *sk_socket;
	struct socket_wq *sk_wq;
	void *sk_bpf_storage; /* what programs keep for it, if they do */
	__u16 sk_protocol;
	__u16 sk_type;
	__u8 sk_kern_sock : 1;
	__u8 sk_userlocks : 4;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
};

struct socket {
	struct sock *sk;
	struct file *file;
};

struct udp_sock {
	struct sk_buff_head reader_queue; /* packets taken from sk_receive_queue but not read yet */
};

struct inet_sock {
	__be16 inet_sport;
};

struct unix_address {
	int len; /* of name, with the family */
	struct {
		__u16 sun_family;
		char sun_path[108];
	} name[0];
};

struct unix_sock {
	struct unix_address *addr; /* an accepted socket has that of its listener */
	struct sock *peer;
};

struct tcp_sock {
	__u32 write_seq; /* of the next byte that a program sends */
	__u64 bytes_sent;
	__u64 bytes_received;
	__u32 lsndtime; /* jiffies, when data was last sent */
	__u8 is_mptcp : 1; /* a bool before 6.7 */
	struct {
		__u64 time; /* in us of CLOCK_MONOTONIC: end of the handshake, later that of the last read */
	} rcvq_space;
};

struct mptcp_sock {
	struct sock *first; /* the first subflow; that of a listener does the listening */
};

struct request_sock {
	struct sock_common __req_common;
};

struct dst_entry {
	struct net_device *dev;
};

struct skb_shared_info {
	unsigned short gso_size;
	unsigned short gso_segs;
	unsigned int gso_type;
};

struct sk_buff {
	struct net_device *dev; /* in a union */
	struct sock *sk;
	unsigned long _skb_refdst; /* in a union */
	char cb[48];
	unsigned int len;
	unsigned int data_len;
	__u8 pkt_type : 3;
	__u8 encapsulation : 1; /* the inner headers are set */
	int skb_iif;
	__u32 vlan_all; /* in a union; 0: no tag */
	__be16 protocol;
	__u16 inner_transport_header; /* these offsets count from head */
	__u16 transport_header;
	__u16 network_header;
	__u16 mac_header;
	unsigned int tail;
	unsigned int end;
	unsigned char *head;
	unsigned char *data;
};

struct sk_buff___before_6_2 {
	__u8 vlan_present : 1;
};

struct inet_skb_parm {
	__u16 frag_max_size;
};

struct inet6_skb_parm {
	__u16 frag_max_size;
};

struct msghdr {
	void *msg_name;
	int msg_namelen;
	unsigned int msg_flags;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_map {
	struct {
		__s64 counter;
	} refcnt;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	struct file *file;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

#pragma clang attribute pop

/*
 * The running task. It stays the same during a run of a program, so the compiler may call the
 * helper once.
 */
static struct task_struct *(*const current_task)(void) __attribute__((const)) = (void *)BPF_FUNC_get_current_task_btf;
