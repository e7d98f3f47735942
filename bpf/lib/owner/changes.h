/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

/*
 * How often a listener got another owner, or lost its owner. As long as it stays the same, an owner that was read of the
 * map of listeners still is the owner. It is counted after the change. That a process takes over the listener of one that
 * has ended is not counted again.
 */
__u64 listener_changes SEC(".data.listeners");

static __always_inline void note_listener_change(void)
{
	__sync_fetch_and_add(&listener_changes, 1);
}
