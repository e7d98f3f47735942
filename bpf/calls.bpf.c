/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * calls - the socket calls of each thread, as trees of the kernel functions that they
 *         go through.
 *
 * Hooks:   The functions, by the best way that the kernel has:
 *          fentry.multi, fexit.multi       one program for all entries, one for all exits
 *          kprobe.session                  one program for both
 *          kprobe.multi, kretprobe.multi
 *          fentry, fexit                   a copy of the programs for each function
 *          kprobe, kretprobe               of calls that block, only so many exits are seen
 *          If there is none of these:
 *          tp_btf sys_enter, sys_exit      the system calls alone, with
 *                 sock_send_length ...     the tracepoints that fire inside them
 *          For waits on sockets in non-blocking mode:
 *          tp_btf sock_send_length, sock_recv_length, sk_data_ready
 *                 before Linux 6.3: fexit __sock_sendmsg or sock_sendmsg, fexit sock_recvmsg,
 *                 fentry sock_def_readable
 *                 if the compiler has put these into their callers: fexit tcp_sendmsg, fentry
 *                 security_socket_sendmsg instead of the first
 *                 if functions cannot be traced: kprobes on security_socket_sendmsg,
 *                 security_socket_recvmsg and sock_def_readable
 *                 fentry or kprobe inet_release   a program closes a socket
 *          Always:
 *          tp_btf inet_sock_set_state      with whom a connection is made
 *          tp_btf sched_switch, _wakeup    whether a thread runs, could run or waits
 *          tp_btf sched_process_free       a thread has ended, and its id can be used again
 *          Run by user space:
 *          iter task                       forgets what was under way before a pause
 * Output:  ring calls, one record for each call that is reported. User space is not woken.
 * Rule:    A call is what the outermost of the functions does. It is reported if it was
 *          sampled, which is decided when it begins, or if it failed or took long, which
 *          shows when it returns. The functions inside are traced only for sampled calls,
 *          or for all if that is configured. For any other call only its beginning is
 *          recorded, until the thread waits or the call is to be reported.
 *          What a soft interrupt does while it interrupts a thread is not the thread's.
 * Loss:    STAT_LOST_RING_FULL; STAT_LOST_MAP_FULL if there is no memory for a thread's
 *          tree; STAT_LOST_UNFINISHED if the return of a call was not seen.
 *          A tree that is not complete tells how many functions it lacks.
 * Needs:   BTF, Linux 5.10.
 */
#include "lib/program/place.h"
#include "lib/program/selftest.h"
#include "lib/calls/loop.h"
#include "lib/calls/report.h"
#include "lib/calls/socketwait.h"
#include "lib/kernel/registers.h"

/*
 * A function as user space passes it, in two words. The first one is what the state of a thread is during a plain call of
 * the function: see plain_of. The second one has its traits. Together they are the cookie of a link. If links have no
 * cookies, each function has a copy of the program with these words in place of the marks. Links of probes and of
 * functions may differ in whether they have cookies. Go: Function.mark.
 */
#define MARK_FUNCTION 0x7a11
#define MARK_TRAITS 0x7a22
#define INDEX(function) ((__u16)(function))

struct mark {
	__u64 function;
	__u64 traits;
};

/* The traits of a function. The first two bits are its enum result_kind, and the next two its enum passes. */
#define KIND(traits) ((traits) & 3)
#define PASSES(traits) ((traits) >> 2 & 3)
#define TRAIT_INNER 0x10  /* in a system call, another one of the functions has called it */
#define TRAIT_ORDINARY 0x20 /* it is called in no interrupt, and of what is deferred until a call has returned only by io_uring */
#define TRAIT_NUMBER 0x40 /* its result is a number, which fexit finds behind its arguments */
#define TRAIT_INT 0x80    /* and one of 32 bits */

/*
 * Whether a function has a trait. In a copy of the program for one function the verifier knows that, and nothing of this
 * is left, not even the comparison.
 */
#define HAS_TRAIT(traits, trait)                                                              \
	({                                                                                    \
		__label__ has, end;                                                           \
		bool found = false;                                                           \
		asm goto("if %0 & %1 goto %l[has]" : : "r"(traits), "i"(trait) : : has);      \
		goto end;                                                                     \
	has:                                                                                  \
		found = true;                                                                 \
	end:;                                                                                 \
		found;                                                                        \
	})

#define with_result_helper has_helper(BPF_FUNC_get_func_ret) /* since 5.17 */

/* The first word of a copy of the program for one function, and otherwise the mark. The verifier knows which. */
static __always_inline __u64 word_of_copy(void)
{
	__u64 word;

	asm volatile("%0 = %1 ll" : "=r"(word) : "i"(MARK_FUNCTION));
	return word;
}

/* Whether this is such a copy. The verifier removes what is for the other case. */
static __always_inline bool is_copy(void)
{
	return word_of_copy() != MARK_FUNCTION;
}

/* A program calls this when it needs the words, so that it does not have to keep them in registers before. */
static __always_inline struct mark mark_of(void *ctx)
{
	__u64 function = word_of_copy(), traits;

	if (function == MARK_FUNCTION) {
		function = bpf_get_attach_cookie(ctx);
		traits = function >> 32;
	} else {
		asm volatile("%0 = %1 ll" : "=r"(traits) : "i"(MARK_TRAITS));
	}
	return (struct mark){ .function = function, .traits = traits };
}

/* From where a program is run. */
enum hook {
	PROBE,
	TRAMPOLINE,
};

static __always_inline __u32 position_at(void *ctx, enum hook hook)
{
	return hook == PROBE ? ((struct pt_regs *)ctx)->sp : position_of(ctx);
}

/* Whether the frame at a is above b on the stack, so that it may have called what is at b. */
static __always_inline bool is_above(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

/* Ends the innermost function, whose return was not seen. */
static __always_inline void abandon(struct tree *t, struct frame *frame)
{
	close_node(t, frame->node, bpf_ktime_get_boot_ns(), 0, NODE_MISSED);
	t->call.missed_exits++;
	t->depth--;
	t->over = 0;
}

/*
 * What follows is rare. It is in global functions so that it is verified once, and not in each
 * iteration of a loop: there is a copy of this program for each function that is watched, and
 * verifying them takes most of the start.
 */

/* Whether the function in frame must have returned, since it cannot have called one at position. */
static __always_inline bool has_returned(struct frame *frame, __u32 position, __u16 index)
{
	if (frame->position == position) /* a tail call leaves its place on the stack to another function */
		return frame->function == index;
	return !is_above(frame->position, position);
}

/* Ends the innermost function if it must have returned; false if it is still under way. */
__noinline int unwind_one(__u32 position, __u32 index)
{
	struct tree *t = this_tree();
	struct frame *frame = t ? innermost(t) : NULL;

	if (!frame || !has_returned(frame, position, index))
		return false;
	abandon(t, frame);
	return true;
}

/* Before a function begins at position, ends those that have returned unseen. */
__noinline int unwind(__u32 position, __u32 index, __s32 entry)
{
	struct tree *t = this_tree();

	if (!t)
		return 0;
	if (t->entry != entry) {
		t->depth = 0;
		return 0;
	}
	for (int i = 0; i < MAX_DEPTH; i++) {
		if (!unwind_one(position, index))
			break;
	}
	return 0;
}

/*
 * Records how many functions are under way up to the one at depth, if that is the function of
 * index.
 */
__noinline int look_for(__u32 index, __u32 depth)
{
	struct tree *t = this_tree();
	__u64 at = depth;

	if (!t || at >= MAX_DEPTH || at >= t->depth)
		return 0;
	CHECKED(at);
	if (t->frame[at].function == (__u16)index)
		t->kept = at + 1;
	return 0;
}

/* Ends the innermost function if it is inside the functions that are kept. */
__noinline int unwind_inside(void)
{
	struct tree *t = this_tree();
	struct frame *frame = t ? innermost(t) : NULL;

	if (!frame || t->depth <= t->kept)
		return false;
	abandon(t, frame);
	return true;
}

/* Ends the functions inside the one of index, which returns. They have returned unseen. */
__noinline int unwind_to(__u32 index)
{
	struct tree *t = this_tree();

	if (!t)
		return 0;
	t->kept = 0;
	for (int i = 0; i < MAX_DEPTH; i++)
		look_for(index, i);
	if (!READ_ONCE(t->kept))
		return 0;
	for (int i = 0; i < MAX_DEPTH; i++) {
		if (!unwind_inside())
			break;
	}
	return 1;
}

/* Trace the functions inside all calls, and not only inside sampled ones. */
bool follows_all;

/*
 * What lets most calls pass with one comparison: the version of the filters, or a value that no thread has if calls have
 * to be looked at more closely when they begin.
 */
__u32 usual_version;

static __always_inline void begin(struct tree *t, struct pt_regs *regs, __s32 entry, __u64 now, bool may_be_behind)
{
	struct call *call = &t->call;

	claim_tree(t);
	t->off_ns = t->wake_ns = t->sock = 0;
	t->off_node = NO_NODE;
	t->over = 0;
	t->idle = t->identified = t->operation = t->touched = t->connected = 0;
	__builtin_memset(&t->given, 0, sizeof(t->given));
	call->start_ns = now;
	call->runnable_ns = call->idle_ns = 0;
	for (int i = 0; i < WAIT_KINDS; i++)
		call->blocked_ns[i] = 0;
	t->entry = entry;
	call->syscall = number_of(entry);
	call->fd = fd_of(call->syscall, regs, may_be_behind);
	call->lost_nodes = call->missed_exits = call->nodes = call->root_only = 0;
	t->longest_ns = t->frames = 0;
}

static __always_inline void open_function(struct tree *t, __u64 depth, __u16 index, __u32 position, __u64 now)
{
	struct frame *frame;

	CHECKED(depth);
	frame = &t->frame[depth];
	frame->node = add_node(t, index, NODE_OPEN, 0, now);
	frame->function = index;
	frame->position = position;
	t->depth = depth + 1;
}

/*
 * Gives the running thread's plain call a tree that has only its root. This is a global function:
 * see report_call.
 */
__noinline int raise_call(bool may_be_behind)
{
	struct tree *t = with_current_task ? this_tree() : make_tree();
	struct pt_regs *regs = user_registers();
	struct thread *th = this_thread();

	if (!th)
		return 0;
	proceed(th, CALL_NONE);
	th->tick = 0;
	if (!t) {
		count_stat(STAT_SEEN);
		count_stat(STAT_LOST_MAP_FULL);
		return 0;
	}
	t->depth = 0;
	begin(t, regs, syscall_of(regs), th->start_ns, may_be_behind);
	open_function(t, 0, th->function, th->position, th->start_ns);
	t->touched = th->touched;
	t->sampled = 0;
	t->call.root_only = 1;
	proceed(th, CALL_ROOT);
	return 1;
}

/*
 * Whether a function at position is inside the thread's call, which is plain or has only its root
 * in the tree.
 */
static __always_inline bool is_inside(const struct thread *th, __u32 position, __u16 index, __s32 entry)
{
	if (th->entry != (__u16)entry)
		return false;
	if (th->position == position) /* a tail call leaves its place on the stack to another function */
		return th->function != index;
	return is_above(th->position, position);
}

/*
 * Whether nothing is to be done at the beginning of a function but to update the thread's place. A
 * call is under way that is plain or has only its root in the tree.
 */
static __always_inline bool is_in_plain(struct thread *th, __u32 position, __u16 index, __s32 entry)
{
	if (is_inside(th, position, index, entry)) {
		if (th->function == index && !is_interrupt(position))
			th->nested++;
		return true;
	}
	if (is_interrupt(position))
		return true;
	if (th->progress == CALL_PLAIN) { /* its end was not seen */
		th->progress = CALL_NONE;
		th->tick = 0;
		count_stat(STAT_SEEN);
		count_stat(STAT_LOST_UNFINISHED);
	}
	return false;
}

static __always_inline void begin_plain(struct thread *th, __u32 function, __u32 position, __u16 entry, __u8 how, bool touched)
{
	th->position = position;
	th->entry = entry;
	th->touched = touched;
	th->how = how;
	th->function = INDEX(function);
	begin_in_loop(th, bpf_ktime_get_boot_ns());
	barrier(); /* see proceed */
	WRITE_ONCE(*progress_of_call(th), CALL_PLAIN);
}

/* Remembers what the running thread has done in a plain call. This is a global function: see enter_tree. */
__noinline int note_plain_deed(__s64 result, bool may_be_behind)
{
	struct pt_regs *regs = user_registers();
	struct thread *th = this_thread();
	__u8 deed;

	if (!th)
		return 0;
	deed = deed_of(th->how);
	if (may_be_behind && deed != OPERATION_OTHER && is_behind_call(regs))
		return 0;
	note_deed(th->conversation, deed, first_of(regs), result);
	return 0;
}

/* Whether it is known without a look at the registers that the function is not deferred work. */
static __always_inline bool is_undeferred(__u64 traits)
{
	return HAS_TRAIT(traits, TRAIT_ORDINARY) && with_current_task &&
	       bpf_core_field_exists(struct task_struct, io_uring) && !current_task()->io_uring;
}

/*
 * The same in few instructions for a thread that sends or receives where it has done so before. It only has to be noted
 * which of the two it was, as in note_exchange.
 */
static __always_inline void note_plain(struct thread *th, __u64 traits, __s64 result, bool may_be_behind)
{
	__u8 kind = th->how & (REMEMBERED | OPERATION_KIND), sends = kind & 1;
	struct conversation *c;
	__s32 fd;

	_Static_assert(OPERATION_SEND == OPERATION_RECEIVE + 1 && OPERATION_SEND & 1, "the lowest bit tells them apart");
	if (!(kind & REMEMBERED))
		return;
	if ((kind & ~1) == (REMEMBERED | OPERATION_RECEIVE) && result >= 0 && (!may_be_behind || is_undeferred(traits))) {
		fd = first_of(registers_at(th->registers));
		c = &th->conversation[fd & (CONVERSATIONS - 1)];
		if (c->fd == fd && stays(c, sends)) {
			c->asks = sends;
			return;
		}
	}
	note_plain_deed(result, may_be_behind);
}

/* Ends a plain call; false if it is to be reported, or may have to be. */
static __always_inline bool end_plain(struct thread *th, __u64 traits, __s64 value, bool may_be_behind)
{
	__s64 result = HAS_TRAIT(traits, TRAIT_INT) ? (__s32)value : value;

	proceed(th, CALL_NONE);
	if (result < 0 && is_wanted_failure(KIND(traits), result))
		return false;
	/* If the call has a tree after all, this is noted again, which changes nothing. */
	note_plain(th, traits, result, may_be_behind);
	if (!is_left_unmeasured(th)) {
		if ((__s64)(bpf_ktime_get_boot_ns() - th->start_ns) >= plain_ns)
			return false;
		th->tick = 0;
	}
	count_sampled_out(th);
	return true;
}

bool with_points; /* system calls are hooked, and tracepoints tell what happens inside */

/*
 * The tree that a function which begins belongs to; NULL if the call is not wanted. wanted is set
 * if it is already known that it is.
 */
static __always_inline struct tree *tree_at(struct thread *th, __u32 position, __u16 index, __s32 entry, bool wanted)
{
	struct tree *t = this_tree();
	struct frame *caller;

	if (t && th && th->progress == CALL_NONE)
		t->depth = 0; /* the thread was preempted while its call ended */
	caller = t ? innermost(t) : NULL;

	if (caller && is_above(caller->position, position) && t->entry == entry)
		return t;
	if (caller) {
		unwind(position, index, entry);
		if (READ_ONCE(t->depth))
			return t;
		if (th)
			th->progress = CALL_NONE;
		count_stat(STAT_SEEN); /* the call itself had returned */
		count_stat(STAT_LOST_UNFINISHED);
	}
	if (!wanted && !is_wanted_here(number_of(entry)))
		return NULL;
	if (!t) {
		meet_process(); /* at the first call of each */
		t = make_tree();
	}
	if (!t) {
		count_stat(STAT_SEEN);
		count_stat(STAT_LOST_MAP_FULL);
	}
	return t;
}

/*
 * Adds a function that begins to the tree of the running thread's call. It is sampled if the call
 * begins with the function, and was drawn. Few calls have a tree. This is a global function so that
 * what it needs takes no part in the other calls: see report_call, too.
 */
__noinline int enter_tree(__u32 index, __u32 position, bool wanted, bool sampled)
{
	struct pt_regs *regs = user_registers();
	struct thread *th = this_thread();
	__u64 now, depth;
	struct tree *t;
	__s32 entry;

	entry = syscall_of(regs);
	t = tree_at(th, position, index, entry, wanted);
	if (!t)
		return 0;
	now = bpf_ktime_get_boot_ns();
	depth = READ_ONCE(t->depth);
	if (!depth) {
		begin(t, regs, entry, now, !with_points);
		t->sampled = th ? sampled : is_drawn(NULL);
		if (th) {
			begin_in_loop(th, now);
			th->tick = 0;
			th->progress = CALL_FOLLOWED;
			th->touched = 0;
		}
	}
	if (depth >= MAX_DEPTH) {
		t->over++;
		t->call.lost_nodes++;
		return 0;
	}
	open_function(t, depth, index, position, now);
	return 0;
}

/* Begins a call of a thread. One that is not drawn is plain. touched is set if it is already known to be about a socket. */
static __always_inline void begin_call(struct thread *th, __u32 function, __u32 position, __u64 entry, bool touched)
{
	if (is_drawn(th))
		enter_tree(INDEX(function), position, true, true);
	else
		begin_plain(th, function, position, entry, operation_of(entry), touched);
}

/*
 * A function begins, and more has to be examined than at most of these. wanted is set if it is already known that the call
 * is. This is a global function: see enter_tree.
 */
__noinline int enter_more(__u32 function, __u32 position, bool wanted)
{
	struct thread *th = this_thread();
	bool sampled = false;
	__s32 entry, number;

	if (th && th->progress != CALL_FOLLOWED) {
		entry = syscall_of(user_registers());
		if (th->progress != CALL_NONE && is_in_plain(th, position, INDEX(function), entry))
			return 0;
		if (!wanted && is_interrupt(position))
			return 0;
		if (th->progress == CALL_NONE) {
			number = number_of(entry);
			if (!wanted && !is_wanted_of(th, number))
				return 0;
			sampled = is_drawn(th);
			if (!sampled && !follows_all) {
				begin_plain(th, function, position, entry, operation_of(number), false);
				return 0;
			}
			wanted = true;
		}
	} else if (!wanted && is_interrupt(position)) {
		return 0;
	}
	enter_tree(INDEX(function), position, wanted, sampled);
	return 0;
}

/* Begins a call of a thread that is in none, if it is a usual one. */
static __always_inline bool begin_usual(void *ctx, enum hook hook, struct thread *th)
{
	struct mark mark;
	__u64 entry;

	if (th->wanted != usual_version || is_32bit_call())
		return false;
	mark = mark_of(ctx);
	if (!HAS_TRAIT(mark.traits, TRAIT_ORDINARY) && is_interrupt(position_at(ctx, hook)))
		return false;
	entry = entry_of(registers_at(th->registers));
	if (entry >= SYSCALL_LIMIT)
		return false;
	begin_call(th, mark.function, position_at(ctx, hook), entry, false);
	return true;
}

/*
 * Whether a function that begins is inside a plain call, or one that has only its root, without a look at the registers. If
 * the end of that call was not seen, this shows when a function begins that is not always called by another one.
 */
static __always_inline bool is_inner(void *ctx, enum hook hook, const struct thread *th)
{
	struct mark mark = mark_of(ctx);

	return HAS_TRAIT(mark.traits, TRAIT_INNER) && th->progress != CALL_FOLLOWED && th->function != INDEX(mark.function) &&
	       is_above(th->position, position_at(ctx, hook));
}

/* A function begins. */
static __always_inline void enter(void *ctx, enum hook hook)
{
	struct thread *th = place_here();

	if (th->task == (__u64)current_task()) {
		if (th->progress == CALL_NONE ? begin_usual(ctx, hook, th) : is_inner(ctx, hook, th))
			return;
	}
	enter_more(mark_of(ctx).function, position_at(ctx, hook), false);
}

/* Ends a function in the running thread's tree. This is a global function: see enter_tree. */
__noinline int leave_tree(__u32 function, __u32 kind, __s64 value)
{
	struct thread *th = this_thread();
	struct tree *t = this_tree();
	struct frame *frame = t ? innermost(t) : NULL;
	__s64 result;
	__u64 now;

	if (!frame)
		return 0; /* it was under way before us, or is not wanted */
	if (t->over) {
		t->over--;
		return 0;
	}
	if (frame->function != INDEX(function)) {
		if (!unwind_to(INDEX(function)))
			return 0; /* the beginning of that function was not seen */
		frame = innermost(t);
		if (!frame)
			return 0;
	}
	now = bpf_ktime_get_boot_ns();
	result = result_of(kind, value);
	close_node(t, frame->node, now, result >= -MAX_ERRNO && result <= 0x7fffffff ? result : 0, 0);
	if (--t->depth)
		return 0;
	finish(th, t, kind, result, now);
	if (th)
		th->progress = CALL_NONE;
	else
		give_place(t);
	return 0;
}

/*
 * Notes what a function was passed that fails, if it may have been an address. The values are read
 * from where the kernel keeps them for fexit: the verifier lets the context be read only as the
 * function's type says, and all functions have this program.
 */
static __always_inline void note_arguments(void *ctx, __u64 traits, __s64 value)
{
	__u64 arguments[3] = {};

	if (!PASSES(traits) || result_of(KIND(traits), value) >= 0)
		return;
	bpf_probe_read_kernel(arguments, sizeof(arguments), ctx);
	note_passed(PASSES(traits), arguments[0], arguments[1], arguments[2]);
}

/*
 * A copy for one function reads a number from behind the arguments. User space puts their size in place of the mark, or
 * removes the load if it is no number, as the verifier may know the value for a pointer. Since Linux 5.17 there is a helper
 * for these, and for one program that has many functions.
 */
static __always_inline __s64 value_at(void *ctx, enum hook hook, __u64 traits)
{
	__u64 value;

	if (hook == PROBE)
		return returned_value(ctx);
	if (with_result_helper && !(is_copy() && HAS_TRAIT(traits, TRAIT_NUMBER)))
		bpf_get_func_ret(ctx, &value);
	else
		asm volatile("%0 = *(u64 *)(%1 + 888)" : "=r"(value) : "r"(ctx));
	return value;
}

/*
 * Whether a function that returns is to be noted, and is not that of a plain call which was not entered again. This is a
 * global function: see enter_tree.
 */
__noinline int is_left(__u32 position)
{
	struct thread *th = this_thread();

	if (is_interrupt(position))
		return false;
	if (th && th->progress != CALL_FOLLOWED && th->nested) {
		th->nested--;
		return false;
	}
	return true;
}

/* A function returns. */
static __always_inline void leave(void *ctx, enum hook hook)
{
	struct thread *th = place_here();
	bool own = th->task == (__u64)current_task();
	struct mark mark = mark_of(ctx);
	__s64 value;

	if (own && *state_of_call(th) == (__u32)mark.function) {
		if (!HAS_TRAIT(mark.traits, TRAIT_ORDINARY) && is_interrupt(position_of(ctx)))
			return;
		value = value_at(ctx, hook, mark.traits);
		if (end_plain(th, mark.traits, value, true) || !raise_call(true))
			return;
	} else {
		if (own && th->progress != CALL_FOLLOWED && (th->function != INDEX(mark.function) || th->progress == CALL_NONE))
			return; /* it is inside a plain call, was under way before us, or is not wanted */
		if (!is_left(position_of(ctx)))
			return;
		value = value_at(ctx, hook, mark.traits);
	}
	if (hook == TRAMPOLINE)
		note_arguments(ctx, mark.traits, value);
	leave_tree(INDEX(mark.function), KIND(mark.traits), value);
}

bool fired_enter_function;

SEC("fentry/sock_alloc_file")
int enter_function(void *ctx)
{
	if (is_enabled(&fired_enter_function))
		enter(ctx, TRAMPOLINE);
	return 0;
}

bool fired_leave_function;

SEC("fexit/sock_alloc_file")
int leave_function(void *ctx)
{
	if (is_enabled(&fired_leave_function))
		leave(ctx, TRAMPOLINE);
	return 0;
}

bool fired_enter_probe;

SEC("kprobe/sock_alloc_file")
int enter_probe(struct pt_regs *ctx)
{
	if (is_enabled(&fired_enter_probe))
		enter(ctx, PROBE);
	return 0;
}

bool fired_leave_probe;

SEC("kretprobe/sock_alloc_file")
int leave_probe(struct pt_regs *ctx)
{
	if (is_enabled(&fired_leave_probe))
		leave(ctx, PROBE);
	return 0;
}

/*
 * The kfunc bpf_session_is_return, whose type changed in 7.x. User space puts a call of it in the
 * place of this one.
 */
#define MARK_IS_RETURN 0x7a33
static bool (*is_return)(void *ctx) = (void *)MARK_IS_RETURN;

bool fired_visit_function;

SEC("kprobe.session/sock_alloc_file")
int visit_function(struct pt_regs *ctx)
{
	if (!is_enabled(&fired_visit_function))
		return 0;
	if (is_return(ctx))
		leave(ctx, PROBE);
	else
		enter(ctx, PROBE);
	return 0; /* 1 would mean that the exit is not wanted */
}

/*
 * For a system call the index of a node is the call's number; for a tracepoint it is one of these.
 */
enum point {
	POINT_SEND_LENGTH = SYSCALL_LIMIT,
	POINT_RECEIVE_LENGTH,
	POINT_SENDMSG_LOCKED,
	POINT_QUEUE,
	POINT_START_XMIT,
	POINT_RECEIVE_SKB,
	POINT_KFREE_SKB,
	POINT_SET_STATE,
};

/* a variable of this type makes bpf2go generate the constants */
const volatile enum point last_point = POINT_SET_STATE;

static __always_inline bool is_about_socket(struct pt_regs *regs, __u8 how)
{
	return how & ON_SOCKET || sock_of_file(file_of_fd(first_of(regs))) ||
	       (how & ON_THIRD && sock_of_file(file_of_fd((int)third_of(regs))));
}

/* A system call begins; false if it is not wanted. */
static __always_inline bool enter_number(struct pt_regs *regs, long number, __u32 position, bool *fired)
{
	__u8 how = operation_of(number);
	struct thread *th;
	bool known;

	if (!how || is_32bit_call())
		return false;
	if (!is_enabled(fired))
		return false;
	th = this_thread();
	if (th ? !is_wanted_of(th, number) : !is_wanted_here(number))
		return false;
	known = !shows_inside(number, how);
	if (known && !is_about_socket(regs, how))
		return false;
	if (th && th->progress == CALL_NONE && th->wanted == usual_version)
		begin_call(th, plain_of(number), position, number, known);
	else
		enter_more(plain_of(number), position, true);
	return true;
}

bool fired_enter_syscall;

SEC("tp_btf/sys_enter")
int BPF_PROG(enter_syscall, struct pt_regs *regs, long number)
{
	enter_number(regs, number, position_of(ctx), &fired_enter_syscall);
	return 0;
}

/* The same if waits are observed as well. It is seen by a close that a socket is closed, unless another descriptor is left. */
bool fired_enter_syscall_of_waits;

SEC("tp_btf/sys_enter")
int BPF_PROG(enter_syscall_of_waits, struct pt_regs *regs, long number)
{
	struct file *file;
	struct sock *sk;

	if (!enter_number(regs, number, position_of(ctx), &fired_enter_syscall_of_waits) || number != SYS_CLOSE)
		return 0;
	file = file_of_fd(first_of(regs));
	sk = sock_of_file(file);
	if (sk && is_only_reference(file))
		note_closed(sk, false);
	return 0;
}

/* A system call returns. */
static __always_inline void end_syscall(struct pt_regs *regs, long result, bool *fired)
{
	long number = syscall_of(regs);
	__u8 how = operation_of(number);
	struct thread *th;
	struct tree *t;

	if (!how)
		return;
	if (!is_enabled(fired))
		return;
	th = this_thread();
	if (th && th->progress == CALL_NONE)
		return;
	if (th && th->progress == CALL_PLAIN) {
		if (shows_inside(number, how) && !th->touched) {
			th->progress = CALL_NONE;
			th->tick = 0;
			return;
		}
		if (end_plain(th, RESULT_LONG, result, false) || !raise_call(false))
			return;
	}
	t = this_tree();
	if (!t || !t->depth)
		return;
	if (!shows_inside(number, how) || (th ? th->touched : t->touched)) {
		leave_tree(number, RESULT_LONG, result);
		return;
	}
	t->depth = 0; /* it had nothing to do with a socket */
	if (th)
		th->progress = CALL_NONE;
}

bool fired_leave_syscall;

SEC("tp_btf/sys_exit")
int BPF_PROG(leave_syscall, struct pt_regs *regs, long result)
{
	end_syscall(regs, result, &fired_leave_syscall);
	return 0;
}

/* The same as the first one of a place. */
struct place at_exit SEC(".maps");
bool fired_leave_syscall_first;

SEC("tp_btf/sys_exit")
int BPF_PROG(leave_syscall_first, struct pt_regs *regs, long result)
{
	end_syscall(regs, result, &fired_leave_syscall_first);
	LEAVE_TO_SECOND(ctx, at_exit);
}

/* Adds a tracepoint to the running thread's call. */
static __always_inline int note_point(enum point index, __s32 result, __u32 position)
{
	struct thread *th = this_thread();
	struct tree *t;

	if (th && th->progress == CALL_NONE)
		return 0;
	if (is_interrupt(position))
		return 0;
	if (th) {
		th->touched = 1;
		if (th->progress != CALL_FOLLOWED)
			return 0;
	}
	t = this_tree();
	if (!t || !t->depth)
		return 0;
	t->touched = 1;
	add_node(t, index, NODE_POINT, result, bpf_ktime_get_boot_ns());
	return 0;
}

/* The same as a function of its own, so that a program that leaves early saves no registers. */
static __noinline int note_any_point(enum point index, __s32 result, __u32 position)
{
	return note_point(index, result, position);
}

/* The same for a tracepoint that is mostly in no call, or in a plain one that is known to be about a socket. */
static __always_inline void pass_point(enum point index, __s32 result, __u32 position)
{
	const struct thread *th = place_here();

	if (th->task == (__u64)current_task() && (th->progress == CALL_NONE || (th->progress != CALL_FOLLOWED && th->touched)))
		return;
	note_any_point(index, result, position);
}

#define POINT_PROGRAM(name, tracepoint, index, result) \
	bool fired_##name;                             \
                                                       \
	SEC("tp_btf/" #tracepoint)                     \
	int name(__u64 *ctx)                           \
	{                                              \
		if (is_enabled(&fired_##name))           \
			pass_point(index, result, position_of(ctx)); \
		return 0;                              \
	}

POINT_PROGRAM(see_send_length, sock_send_length, POINT_SEND_LENGTH, ctx[1])
POINT_PROGRAM(see_receive_length, sock_recv_length, POINT_RECEIVE_LENGTH, ctx[1])
POINT_PROGRAM(see_sendmsg_locked, tcp_sendmsg_locked, POINT_SENDMSG_LOCKED, 0)
POINT_PROGRAM(see_queue, net_dev_queue, POINT_QUEUE, 0)
POINT_PROGRAM(see_start_xmit, net_dev_start_xmit, POINT_START_XMIT, 0)
POINT_PROGRAM(see_receive_skb, netif_receive_skb, POINT_RECEIVE_SKB, 0)
POINT_PROGRAM(see_kfree_skb, kfree_skb, POINT_KFREE_SKB, 0)

static __always_inline void note_state(struct sock *sk, int new, __u32 position)
{
	struct thread *th;
	struct tree *t;

	if (is_interrupt(position))
		return;
	if (new == STATE_SYN_SENT) {
		th = this_thread();
		if (th && th->progress == CALL_PLAIN)
			raise_call(!with_points);
		t = this_tree();
		if (t && t->depth) {
			__builtin_memset(t->call.local_address, 0, sizeof(t->call.local_address));
			__builtin_memset(t->call.peer_address, 0, sizeof(t->call.peer_address));
			note_socket(&t->call, sk);
			t->connected = 1;
		}
	}
	if (with_points)
		note_point(POINT_SET_STATE, new, position);
}

bool fired_see_state;

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(see_state, struct sock *sk, int old, int new)
{
	if (is_enabled(&fired_see_state))
		note_state(sk, new, position_of(ctx));
	return 0;
}

/*
 * The same if waits are observed as well. The functions that report waits cannot be verified on
 * Linux 5.10, even if they are not called, so that they need a program of their own.
 */
bool fired_see_state_of_waits;

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(see_state_of_waits, struct sock *sk, int old, int new)
{
	__u32 position = position_of(ctx);

	if (!is_enabled(&fired_see_state_of_waits))
		return 0;
	follow_state(sk, old, new, position);
	note_state(sk, new, position);
	return 0;
}

bool fired_see_ready;

SEC("tp_btf/sk_data_ready")
int BPF_PROG(see_ready, struct sock *sk)
{
	if (is_enabled(&fired_see_ready))
		note_ready(sk, true);
	return 0;
}

/* Before Linux 6.3. */

bool fired_see_readable;

SEC("fentry/sock_def_readable")
int BPF_PROG(see_readable, struct sock *sk)
{
	if (is_enabled(&fired_see_readable))
		note_ready(sk, true);
	return 0;
}

bool fired_see_readable_probe;

SEC("kprobe/sock_def_readable")
int see_readable_probe(struct pt_regs *ctx)
{
	if (is_enabled(&fired_see_readable_probe))
		note_ready(first_argument(ctx), false);
	return 0;
}

/* A socket of TCP, UDP or MPTCP is closed, by its last descriptor or with its process. */

bool fired_see_closed;

SEC("fentry/inet_release")
int BPF_PROG(see_closed, struct socket *socket)
{
	struct sock *sk;

	if (!is_enabled(&fired_see_closed))
		return 0;
	sk = socket->sk;
	if (sk)
		note_closed(sk, true);
	return 0;
}

bool fired_see_closed_probe;

SEC("kprobe/inet_release")
int see_closed_probe(struct pt_regs *ctx)
{
	if (is_enabled(&fired_see_closed_probe))
		note_closed(BPF_CORE_READ((struct socket *)first_argument(ctx), sk), false);
	return 0;
}

bool fired_see_sent;

SEC("tp_btf/sock_send_length")
int BPF_PROG(see_sent, struct sock *sk, int result, int flags)
{
	if (is_enabled(&fired_see_sent))
		note_sent(sk, result, true);
	return 0;
}

bool fired_see_read;

SEC("tp_btf/sock_recv_length")
int BPF_PROG(see_read, struct sock *sk, int result, int flags)
{
	if (is_enabled(&fired_see_read))
		note_read(sk, result, flags, true);
	return 0;
}

/*
 * The same if functions cannot be traced, so that the tracepoints tell of the trees as well. One program for both takes
 * less than two.
 */

bool fired_see_sent_inside;

SEC("tp_btf/sock_send_length")
int BPF_PROG(see_sent_inside, struct sock *sk, int result, int flags)
{
	if (!is_enabled(&fired_see_sent_inside))
		return 0;
	pass_point(POINT_SEND_LENGTH, result, position_of(ctx));
	note_sent(sk, result, true);
	return 0;
}

bool fired_see_read_inside;

SEC("tp_btf/sock_recv_length")
int BPF_PROG(see_read_inside, struct sock *sk, int result, int flags)
{
	if (!is_enabled(&fired_see_read_inside))
		return 0;
	pass_point(POINT_RECEIVE_LENGTH, result, position_of(ctx));
	note_read(sk, result, flags, true);
	return 0;
}

/* Before Linux 6.3. */

static __always_inline void note_sent_on(struct socket *socket, int result)
{
	struct sock *sk = socket->sk;

	if (sk)
		note_sent(sk, result, true);
}

static __always_inline void note_read_on(struct socket *socket, int result, int flags)
{
	struct sock *sk = socket->sk;

	if (sk)
		note_read(sk, result, flags, true);
}

bool fired_see_message;

/* User space has this follow the function through which all calls send: __sock_sendmsg, if the kernel has that. */
SEC("fexit/sock_sendmsg")
int BPF_PROG(see_message, struct socket *socket, struct msghdr *msg, int result)
{
	if (is_enabled(&fired_see_message))
		note_sent_on(socket, result);
	return 0;
}

bool fired_see_recvmsg;

SEC("fexit/sock_recvmsg")
int BPF_PROG(see_recvmsg, struct socket *socket, struct msghdr *msg, int flags, int result)
{
	if (is_enabled(&fired_see_recvmsg))
		note_read_on(socket, result, flags);
	return 0;
}

/*
 * The same if calls are seen at these functions as well, by copies of a program. A second program at a function would take
 * about 60 instructions before its own. What the call did is noted before it may end here, as one of io_uring does.
 */

bool fired_leave_message;

SEC("fexit/sock_sendmsg")
int leave_message(__u64 *ctx)
{
	if (!is_enabled(&fired_leave_message))
		return 0;
	note_sent_on((struct socket *)ctx[0], ctx[2]);
	leave(ctx, TRAMPOLINE);
	return 0;
}

bool fired_leave_recvmsg;

SEC("fexit/sock_recvmsg")
int leave_recvmsg(__u64 *ctx)
{
	if (!is_enabled(&fired_leave_recvmsg))
		return 0;
	note_read_on((struct socket *)ctx[0], ctx[3], ctx[2]);
	leave(ctx, TRAMPOLINE);
	return 0;
}

/*
 * If some calls do not go through such a function, the result of a send is known only for TCP, at the end of its function.
 * Other sends are taken for successful, as most are.
 */

bool fired_see_sent_tcp;

SEC("fexit/tcp_sendmsg")
int BPF_PROG(see_sent_tcp, struct sock *sk, struct msghdr *msg, unsigned long size, int result)
{
	if (is_enabled(&fired_see_sent_tcp))
		note_sent(sk, result, true);
	return 0;
}

bool fired_see_sendmsg;

SEC("fentry/security_socket_sendmsg")
int BPF_PROG(see_sendmsg, struct socket *socket, struct msghdr *msg, int size)
{
	struct sock *sk;

	if (!is_enabled(&fired_see_sendmsg))
		return 0;
	sk = socket->sk;
	if (sk && !(sk->sk_protocol == IPPROTO_TCP && sk->__sk_common.skc_family != AF_UNIX))
		note_sent(sk, 0, true);
	return 0;
}

/*
 * If there are only probes, the end of a function cannot be matched with its arguments. Each send
 * and receive is then taken for successful.
 */

bool fired_see_sendmsg_probe;

SEC("kprobe/security_socket_sendmsg")
int see_sendmsg_probe(struct pt_regs *ctx)
{
	if (is_enabled(&fired_see_sendmsg_probe))
		note_sent(BPF_CORE_READ((struct socket *)first_argument(ctx), sk), 0, false);
	return 0;
}

bool fired_see_recvmsg_probe;

SEC("kprobe/security_socket_recvmsg")
int see_recvmsg_probe(struct pt_regs *ctx)
{
	if (is_enabled(&fired_see_recvmsg_probe))
		note_reading(BPF_CORE_READ((struct socket *)first_argument(ctx), sk), (int)fourth_argument(ctx));
	return 0;
}

static __always_inline __u32 state_of(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return BPF_CORE_READ(task, __state);
	return BPF_CORE_READ((struct task_struct___before_5_14 *)task, state);
}

/* The tree of the call that a thread is in, if it has one. */
static __always_inline struct tree *tree_in_call(struct task_struct *task)
{
	struct thread *th = thread_of(task);
	struct tree *t;

	if (th && th->progress < CALL_ROOT)
		return NULL;
	t = tree_of(task);
	return t && t->depth ? t : NULL;
}

bool fired_see_switch;

SEC("tp_btf/sched_switch")
int BPF_PROG(see_switch, bool preempted, struct task_struct *from, struct task_struct *to)
{
	struct thread *th;
	struct tree *t;

	if (!is_enabled(&fired_see_switch))
		return 0;
	th = thread_of(from);
	if (th && th->progress == CALL_PLAIN)
		raise_call(!with_points);
	else if (th && th->progress == CALL_NONE)
		bound_last(th);
	t = tree_in_call(from);
	if (t)
		leave_cpu(t, preempted ? TASK_RUNNING : state_of(from));
	t = tree_in_call(to);
	if (t && t->off_ns)
		reach_cpu(t, to);
	return 0;
}

bool fired_see_wakeup;

SEC("tp_btf/sched_wakeup")
int BPF_PROG(see_wakeup, struct task_struct *task)
{
	struct tree *t;

	if (!is_enabled(&fired_see_wakeup))
		return 0;
	t = tree_in_call(task);
	if (t && t->off_ns && !t->wake_ns)
		t->wake_ns = bpf_ktime_get_boot_ns();
	return 0;
}

/*
 * Forgets what is known of a thread's calls. If one is under way its end was not seen, or will not
 * be.
 */
static __always_inline void forget_calls_of(struct task_struct *task)
{
	struct thread *th = thread_of(task);
	struct tree *t = tree_of(task);

	if (t && !is_tree_of(t, task))
		t = NULL;
	if (th ? th->progress != CALL_NONE : t && t->depth) {
		count_stat(STAT_SEEN);
		count_stat(STAT_LOST_UNFINISHED);
	}
	if (t) {
		t->depth = 0;
		__builtin_memset(t->conversation, 0, sizeof(t->conversation));
	}
	if (th) {
		if (th->progress == CALL_NONE)
			bound_last(th);
		th->progress = CALL_NONE;
		th->tick = 0;
		__builtin_memset(th->conversation, 0, sizeof(th->conversation));
	}
}

bool fired_forget_thread;

/*
 * Forgets a thread that has ended. This runs even while calls are disabled, or its place would
 * never be free again.
 */
SEC("tp_btf/sched_process_free")
int BPF_PROG(forget_thread, struct task_struct *task)
{
	struct thread *th = thread_of(task);
	struct tree *t = tree_of(task);
	__u32 id = task->pid;

	is_enabled(&fired_forget_thread);
	forget_calls_of(task);
	if (!with_current_task && t && is_tree_of(t, task))
		bpf_map_delete_elem(&thread_trees, &id);
	if (th)
		WRITE_ONCE(th->task, 0);
	return 0;
}

/*
 * Run before calls are enabled again: what threads were doing when they were disabled is not what
 * they do now.
 */
SEC("iter/task")
int forget_calls(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task)
		forget_calls_of(task);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
