/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../context/context.h"
#include "../kernel/verifier.h"

/*
 * The call that a thread is in, with the functions it has gone through. A tree is kept for each
 * thread that has made a call, and takes about 2.5 kB. Go: internal/calls/model.go.
 */
#define MAX_NODES 60
#define MAX_DEPTH 20
#define NO_NODE 0xff

/* The function of a node that is none of the functions in user space's table. */
#define FUNCTION_OFF_CPU 0xffff

enum __attribute__((packed)) node_flag {
	NODE_OPEN = 1,   /* its end was not seen when the call ended */
	NODE_MISSED = 2, /* its end was not seen, though its caller's was */
	NODE_POINT = 4,  /* a tracepoint: it has no duration */
};

/* What a thread waits for, as its socket was when it left the CPU. */
enum __attribute__((packed)) wait {
	WAIT_OTHER,
	WAIT_RECEIVE_QUEUE,
	WAIT_SEND_BUFFER,
	WAIT_LOCK,
	WAIT_ACCEPT_QUEUE,
	WAIT_HANDSHAKE,
	WAIT_KINDS,
};

/* Why a call is reported. */
enum __attribute__((packed)) reason {
	REASON_NONE,
	REASON_FAILED,
	REASON_SLOW,
	REASON_SAMPLED,
};

/* What a wait that belongs to no single call waited for. */
enum __attribute__((packed)) socket_wait {
	SOCKET_WAIT_NONE, /* the record is a call's */
	SOCKET_WAIT_CONNECT,
	SOCKET_WAIT_RECEIVE,
	SOCKET_WAIT_SEND,
	SOCKET_WAITS,
};

/* What is known of such a wait. */
enum __attribute__((packed)) wait_flag {
	WAIT_HAS_PEER = 1,  /* peer_ns */
	WAIT_HAS_LOCAL = 2, /* local_ns */
	WAIT_GIVEN_UP = 4,  /* the program closed the socket before it was over */
};

/* The end of a Unix socket whose path is in a record. */
enum __attribute__((packed)) path_end {
	PATH_OF_NONE,
	PATH_OF_LOCAL,
	PATH_OF_PEER,
};

struct call_node {
	__u64 start_ns; /* from the start of the call */
	__u64 duration_ns;
	/*
	 * Of a function, if 32 bits hold it. Off the CPU: the ns for which it could have run, at
	 * most what 32 bits hold.
	 */
	__s32 result;
	__u16 function;
	__u8 parent; /* index of the node it is in; NO_NODE: it is the root */
	enum node_flag flags; /* off the CPU the upper four bits are enum wait */
};

#define PATH_BYTES 108 /* of a Unix socket: sockaddr_un.sun_path */
#define PATH_NODES 6   /* the room for a path, as a number of nodes */

#define STACK_FRAMES 18
#define STACK_NODES 6 /* the room for a stack, as a number of nodes */

/*
 * The record in the ring. It ends after its last node, or after the path that follows that node, or
 * after the stack that follows these.
 */
struct call {
	__u64 start_ns; /* CLOCK_BOOTTIME */
	__u64 duration_ns;
	__u64 runnable_ns;            /* off the CPU while it waited for nothing but a CPU */
	__u64 blocked_ns[WAIT_KINDS]; /* by enum wait */
	__u64 idle_ns;                /* of blocked_ns: waiting for work */
	__u64 peer_ns;                /* of a socket's wait: until there was something to read */
	__u64 local_ns;               /* from then until the program read it */
	__s64 result;
	struct process process;
	struct process_seen seen;
	struct context context;
	char thread_name[COMM_SIZE];
	__u8 local_address[16]; /* IPv4 as ::ffff:a.b.c.d; all 0 where there is none */
	__u8 peer_address[16];
	__u32 netns_inode; /* 0: no socket is known */
	__u32 thread_id;
	__s32 syscall; /* number; NO_SYSCALL */
	__s32 fd;      /* NO_FD */
	__u32 lost_nodes;
	__u16 local_port; /* host byte order */
	__u16 peer_port;
	__u16 missed_exits;
	__u16 family;
	__u16 protocol;
	__u8 nodes;
	enum reason reason;
	__u8 root_only; /* the functions inside were not traced */
	enum socket_wait wait;
	enum wait_flag wait_flags;
	__u8 expected; /* the failure is an expected one: see expected.h */
	enum path_end path_end;
	__u8 path_bytes; /* the length of the path; 0: there is none */
	__u8 frames;     /* of the stack; 0: there is none */
	__u8 pad;
	struct call_node node[MAX_NODES + PATH_NODES + STACK_NODES];
};

_Static_assert(STACK_NODES * sizeof(struct call_node) == STACK_FRAMES * sizeof(__u64), "a stack fits into its room");

#define CALL_HEAD __builtin_offsetof(struct call, node)
#define NO_SYSCALL (-1)

/* What a thread does on a descriptor: see conversation.h. */
enum __attribute__((packed)) role {
	ROLE_UNKNOWN,
	ROLE_STAYS_ON_SEND = 1, /* bits of those below: what leaves the role as it is */
	ROLE_STAYS_ON_RECEIVE = 2,
	ROLE_CLIENT = 4 | ROLE_STAYS_ON_SEND | ROLE_STAYS_ON_RECEIVE, /* it sends, and receives the answers */
	ROLE_READER = 8, /* it receives the answers to what another thread asks */
	ROLE_SERVER = 12 | ROLE_STAYS_ON_SEND | ROLE_STAYS_ON_RECEIVE,
	ROLE_OTHER = 16 | ROLE_STAYS_ON_RECEIVE, /* a reader on a socket that does not show how much was sent */
	ROLE_CONNECTED = 20, /* it has connected, and will be a client or a reader */
};

struct conversation {
	__s32 fd;
	__u32 written; /* of a reader: how much was sent when it last received */
	enum role role;
	__u8 asks; /* of a client: it has sent since it last received */
	__u16 pad;
};

#define CONVERSATIONS 4

struct frame {
	__u32 position; /* low half of the address on the thread's stack where it was called */
	__u16 function;
	__u8 node;
	__u8 pad;
};

/*
 * Where the address is that was passed to a call that failed. The first two fields are those with
 * which struct msghdr begins.
 */
struct given {
	__u64 at; /* 0: no address was passed */
	__u32 length;
	__s32 syscall; /* the call that it was passed to, by its native number; 0: not known yet */
	__u8 in_kernel; /* it is in the kernel's memory, and not in the program's */
	__u8 pad[7];
};

struct tree {
	__u64 off_ns;  /* when the thread left the CPU; 0: it is running */
	__u64 wake_ns; /* when it became runnable again; 0: it is not */
	__u64 sock;    /* address of the call's socket; 0: not known yet */
	__u64 silent_ns; /* when its process was last found to be silent: see find_context */
	__u32 depth;
	__u32 over; /* functions under way beyond MAX_DEPTH */
	__s32 entry; /* the number with which the thread entered the kernel: see number_of */
	__u32 off_jiffies; /* off_ns in jiffies */
	__u32 off_written; /* how much was sent on the socket by then */
	__u32 task; /* low half of its thread's address, where trees are found by ids: see is_tree_of */
	struct conversation conversation[CONVERSATIONS];
	struct given given;
	__u8 off_node;
	enum wait wait;  /* while off the CPU */
	__u8 idle;       /* it waits for work */
	__u8 identified; /* fd and sock have been looked for */
	__u8 operation;  /* enum operation */
	__u8 touched;    /* the call had to do with a socket */
	__u8 connected;  /* the ends of the connection are noted */
	__u8 kept;       /* number of functions that were still under way when others returned unseen */
	__u8 sampled;    /* the call is reported, however it ends */
	__u8 frames;     /* of stack */
	__u8 more_pad[6];
	__u64 longest_ns; /* how long the wait took of which stack is */
	__u64 stack[STACK_FRAMES]; /* return addresses, innermost first */
	struct frame frame[MAX_DEPTH];
	struct call call;
};

/* The innermost function that is under way, or NULL. */
static __always_inline struct frame *innermost(struct tree *t)
{
	__u64 index = READ_ONCE(t->depth) - 1ULL; /* beyond every limit if depth is 0 */

	if (index >= MAX_DEPTH)
		return NULL;
	CHECKED(index);
	return &t->frame[index];
}
