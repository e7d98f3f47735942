// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import "sync"

// assignment is a task that only one of the signals of a shared receiver has at a time. Its zero
// value is free.
type assignment struct {
	mu sync.Mutex
	by *signalReceiver
}

// take gives r the task if it is free, and reports whether r has it now.
func (a *assignment) take(r *signalReceiver) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = r
	}
	return a.by == r
}

// release frees the task if r has it, so that the next start may give it to another signal.
func (a *assignment) release(r *signalReceiver) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == r {
		a.by = nil
	}
}
