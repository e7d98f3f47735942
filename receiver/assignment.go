// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import "sync"

// assignment is a task that one of the signals of a shared receiver has at a time. Its zero value is
// free.
type assignment struct {
	mu sync.Mutex
	by *signalReceiver
}

// take says whether r has the task now.
func (a *assignment) take(r *signalReceiver) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = r
	}
	return a.by == r
}

// release frees the task if r has it: the next start may give it to another signal.
func (a *assignment) release(r *signalReceiver) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == r {
		a.by = nil
	}
}
